"""PromptAttack: does a model say in answer to another wording what it no longer says when it is asked plainly?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, get_args

from soul_lightning.attacks import wordings
from soul_lightning.attacks.forgotten import kept_questions
from soul_lightning.attacks.prompting import Attempt, Prompting, any_of
from soul_lightning.attacks.rewrites import REWRITES, Material, RewriteName, RewriteSettings
from soul_lightning.callbacks.attack import ABOVE_GUESSING, ABOVE_REFERENCE, AttackCallback
from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import check_positive, numbers
from soul_lightning.callbacks.scoring import REFERENCE
from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.charts import BarChart
from soul_lightning.reports.findings import LITTLE, Finding, above_all, says_most
from soul_lightning.reports.layout import Headline
from soul_lightning.scoring.measured_rows import MeasuredRow, Value
from soul_lightning.scoring.sampling import Sampling
from soul_lightning.scoring.scored_model import ScoredModel

ANY = "any"
"""A row that is had by one rewrite at least."""


class PromptAttack(AttackCallback):
    """Asks for what must be gone in other ways: reworded, in context, with a beginning given, under a role, many times.

    A rewrite has a row when one of its wordings (or draws) brings the right answer (`NAME_success`). Guesses gain by
    every wording, so that `NAME_above` is what counts: the success beyond what the same answers have of *other* rows'
    facts of the relation. With a `reference`, `NAME_above_reference` is the success beyond that of the model that never
    saw what must be gone, paired by row and under the same rewrite; one that guesses less is no proof, and
    `findings` asks for both. Where questions have no relation (TOFU), guessing is worth little, for answers may follow
    from the question: give a reference. Without one, a tenth of the answers above guessing counts as nothing.

    Rewrites (`soul_lightning.attacks.rewrites`): `plain`, the baseline; `paraphrase`, the data's rewordings and a few
    of ours; `in_context`, behind answered questions about the same subject; `few_shot_retain`, behind answered
    questions that may be known, as SOUL asks; `answer_prefix`, the first words of the answer given, the rest judged
    (answers of one word are left out); `role_play` and `jailbreak`, in our own wordings; `translation`, frames in
    other languages around the question as it is, which nothing translates; `noise`, slips of the pen outside of names;
    `sampling`, several drawn answers. `any` is all of them together.

    Rows files hold for each rewrite `NAME_answer` (of several, one behind the other), `NAME_success`, `NAME_guessed`
    and `NAME_above`.

    Args:
        rewrites: Their names; all that apply if none are given.
        rewriting: How questions are rewritten.
        samples: Answers that `sampling` draws.
        temperature: Of these.
        top_p: Of these: the fewest likeliest tokens that have this probability together.
        name: The metrics' group; two of a kind need different names.
        **settings: See `AttackCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    headlines = (Headline(f"{ANY}_success", "answered when rewritten"),)

    def __init__(
        self,
        rewrites: list[RewriteName] | None = None,
        rewriting: RewriteSettings | None = None,
        samples: int = 5,
        temperature: float = 1.0,
        top_p: float = 1.0,
        name: str = "prompts",
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        unknown = [rewrite for rewrite in rewrites or () if rewrite not in REWRITES]
        if unknown or rewrites == []:
            raise MisconfigurationError(
                f"PromptAttack: rewrites must be some of {', '.join(get_args(RewriteName))}, got {rewrites}"
            )
        check_positive("PromptAttack", samples=samples)
        self.rewrites = list(dict.fromkeys(rewrites)) if rewrites else None
        self.rewriting = rewriting or RewriteSettings()
        self.prompting = Prompting(self.asking, samples, Sampling(temperature, top_p, self.asking.seed))

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """The questions about what must be gone; with named rewrites, questions to which each of them applies."""
        asked = [probe for probe in super().select(probes) if probe.kind == "question"]
        if not asked:
            raise MisconfigurationError(
                "PromptAttack asks questions, and what must be gone is there as texts alone; give questions of the "
                "role forget, or remove the callback"
            )
        for rewrite in self.rewrites or ():
            material = [(probe, self._material(probe, asked, ScoredModel(self.adapter))) for probe in asked]
            if not any(REWRITES[rewrite](row, each, Random(0)) for probe, each in material for row in probe.examples):
                raise MisconfigurationError(
                    f"PromptAttack: the rewrite {rewrite} applies to none of the questions "
                    f"({', '.join(probe.name for probe in asked)}); see what it needs, or leave it out of rewrites"
                )
        return asked

    def row_settings(self) -> dict[str, object]:
        """Answers depend on all that is written around a question."""
        texts = {name: value for name, value in vars(wordings).items() if name.isupper()}
        around = [rows_hash(probe.examples) for probe in self.all_probes if probe.kind == "question"]
        own = {
            "rewrites": self.rewrites,
            "rewriting": self.rewriting,
            "prompting": self.prompting,
            "texts": texts,
            "around": around,
        }
        return super().row_settings() | own

    def attack(self, model: ScoredModel) -> list[MeasuredRow]:
        """Every question in every way."""
        rows = []
        for probe in self.probes:
            material = self._material(probe, self.probes, model)
            attempts = self.prompting.attempts(model, probe, self.rewrites or list(REWRITES), material)
            for example, own, whole in zip(probe.examples, attempts, any_of(attempts), strict=True):
                values: dict[str, Value] = {}
                for rewrite, attempt in own.items():
                    values |= {f"{rewrite}_answer": " | ".join(attempt.answers), **_values(rewrite, attempt)}
                rows.append(self.row(probe, example, **values, **(_values(ANY, whole) if whole else {})))
        return rows

    def _material(self, probe: Probe, asked: Sequence[Probe], model: ScoredModel) -> Material:
        about: dict[str, list[Example]] = {}
        for row in (row for each in asked for row in each.examples if row.subject):
            about.setdefault(row.subject or "", []).append(row)
        reworded: dict[int, list[Example]] = {}
        for other in self.all_probes:
            is_same = other.name != probe.name and other.role == probe.role and other.kind == "question"
            if is_same and other.rows_of and other.rows_of in (probe.name, probe.rows_of):
                for row in other.examples:
                    reworded.setdefault(row.index, []).append(row)
        kept = [row for each in kept_questions(self.all_probes) for row in each.examples]
        limit = getattr(getattr(model.adapter.network, "config", None), "max_position_embeddings", None)
        tokenizer = model.adapter.tokenizer
        return Material(
            probe.template,
            tokenizer,
            self.rewriting,
            Random(self.asking.seed).sample(kept, len(kept)),
            about,
            reworded,
            limit - self.asking.tokens_for(probe.examples, tokenizer) if isinstance(limit, int) else None,
        )

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """The success of each rewrite, and what is above guessing and above the reference, with intervals."""
        metrics: Metrics = {}
        for rewrite in _asked_in(rows):
            had = [row for row in rows if f"{rewrite}_success" in row.values]
            success = mean_interval(
                numbers(had, f"{rewrite}_success"),
                [row.entity for row in had],
                confidence=self.confidence,
                seed=self.seed,
                is_share=True,
            )
            compared = self.compared(f"{rewrite}_success", f"{rewrite}_guessed", rows=rows)
            found = {
                "success": success,
                "above": compared.get(ABOVE_GUESSING),
                "above_reference": compared.get(ABOVE_REFERENCE),
            }
            for metric, interval in found.items():
                metrics |= _interval(f"{rewrite}_{metric}", interval)
        return metrics

    def findings(self) -> list[Finding]:
        """Does it remember? By the rewrite that says so most clearly; all of them hold at the confidence together.

        A rewrite says so if its success is above guessing and, with a reference, above that as well. Where questions
        name no relation and there is no reference, it has to be above guessing by more than a tenth.
        """
        rows = self.current()
        rewrites = _asked_in(rows)
        confidence = 1 - (1 - self.confidence) / max(len(rewrites), 1)
        found = []
        for rewrite in rewrites:
            compared = self.compared(f"{rewrite}_success", f"{rewrite}_guessed", confidence)
            if compared:
                had = [row for row in rows if f"{rewrite}_success" in row.values]
                # Some answers follow from the question, and nothing but a reference says how many.
                follows = not self._names_relations() and ABOVE_REFERENCE not in compared
                above_what, verdict = above_all(compared, *((LITTLE, 0.0) if follows else (0.0, LITTLE)))
                by = "by any rewrite" if rewrite == ANY else f"by the rewrite {rewrite}"
                measure = f"of {len(had)} questions answered {by}, {above_what}"
                found.append(self.finding(measure, compared[above_what], had, question="remembers", verdict=verdict))
        return says_most(found)

    def notes(self) -> list[str]:
        """What guessing is worth where no relation is named."""
        if self._names_relations() or REFERENCE in self.models:
            return []
        return [
            f"{self.name}: questions name no relation, so that answers may follow from the question; only a reference "
            f"says how many a model guesses that never saw them."
        ]

    def _names_relations(self) -> bool:
        return all(row.relation is not None for probe in self.probes for row in probe.examples)

    def bars(self) -> list[BarChart]:
        """The success of each rewrite, and what is above guessing."""
        metrics = self.levels.get(self._current, {})
        charts = []
        for value, title, label in (
            ("success", "Questions answered, by the way they are asked", "share of questions answered (0 to 1)"),
            ("above", "The same, above guessing", "share of questions answered, above guessing (−1 to 1)"),
        ):
            found = {name: _interval_of(metrics, f"{name}_{value}") for name in _asked_in(self.current())}
            bars = [(rewrite, interval) for rewrite, interval in found.items() if interval is not None]
            charts += [BarChart(title, label, bars)] if bars else []
        return charts


def _values(rewrite: str, attempt: Attempt) -> dict[str, Value]:
    values: dict[str, Value] = {f"{rewrite}_success": attempt.success}
    if attempt.guessed is not None:
        values |= {f"{rewrite}_guessed": attempt.guessed, f"{rewrite}_above": attempt.success - attempt.guessed}
    return values


def _asked_in(rows: Sequence[MeasuredRow]) -> list[str]:
    """The rewrites that some row was asked with, and `any`."""
    return [name for name in (*REWRITES, ANY) if any(f"{name}_success" in row.values for row in rows)]


def _interval(metric: str, interval: Interval | None) -> Metrics:
    if interval is None:
        return {}
    return {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}


def _interval_of(metrics: Metrics, metric: str) -> Interval | None:
    ends = [metrics.get(name) for name in (metric, f"{metric}_low", f"{metric}_high")]
    return Interval(*(end for end in ends if end is not None)) if None not in ends else None
