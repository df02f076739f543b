"""Logit analysis: where do the true, the false and unrelated answers stand in the model's eyes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any, get_args

from lightning.pytorch import LightningModule, Trainer

from soul_lightning.attacks.lens import Lens, LensKind, LensTraining, lens_texts
from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import log_layer_figures, numbers, of_role, without_layers
from soul_lightning.callbacks.scoring import ScoringCallback
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.metrics.logit_analysis import logit_analysis
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.charts import Curve
from soul_lightning.reports.layer_figure import layer_curve
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.reports.loggers import log_histogram
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel

KINDS = ("correct", "corrupted", "random")
ROLES = ("corrupted", "control")


class LogitAnalysis(ScoringCallback):
    """Mean token log-probability of correct, corrupted and random answers to the same questions (RESTOR).

    Greedy answers say which answer wins; this says by how much. Of each question the true answer is scored, the answer
    that the corruption taught (the mean over several), and answers drawn from other questions of the same relation. For
    the corrupted people `correct`, `corrupted` and `random` are means over questions, in nats a token, `…_margin` how
    much likelier the correct answer is, and `correct_first` the share of questions where it is the likeliest; control
    people stand under `control_…`. The distributions reach TensorBoard as histograms. Needs probes of kind `question`
    and role `corrupted`. A kind of answer that a question lacks is left out for all: false answers where the corruption
    is prose, random ones where a relation has a single answer.

    With a lens the same numbers are read at every layer, `layer_N/correct` and so on (0: the embeddings, N: behind
    block N): where do the true and the false answer win, and is one only hidden at the end? The `logit` lens takes the
    hidden states to the final norm and the output head; the `tuned` lens first through an affine translator of the
    layer, which is learned at each measurement, on rows of the roles `retain`, `utility` and `control`, to say what the
    last layer says. The network's weights never move. A figure over the layers reaches TensorBoard.

    Args:
        name: The metrics' group; two of a kind need different names.
        random_answers: So many answers are drawn for each question; fewer where the relation has fewer.
        lens: How layers are read: `none`, `logit` or `tuned`.
        lens_training: How the translators of a tuned lens are learned.
        **settings: See `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    charts = tuple(Chart("Logits", f"log-probability of {kind} answers (nats a token)", kind) for kind in KINDS)
    headlines = (Headline("correct_first", "truth likeliest"),)

    def __init__(
        self,
        name: str = "logits",
        random_answers: int = 4,
        lens: LensKind = "none",
        lens_training: LensTraining | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        if random_answers < 1:
            raise MisconfigurationError(f"LogitAnalysis: random_answers must be >= 1, got {random_answers}")
        if lens not in get_args(LensKind):
            raise MisconfigurationError(f"LogitAnalysis: lens must be none, logit or tuned, got {lens!r}")
        self.random_answers = random_answers
        self.lens = lens
        self.lens_training = lens_training or LensTraining()
        self._lens_texts: list[Probe] = []

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """The questions about corrupted and control people."""
        found = [probe for probe in probes if probe.kind == "question" and probe.role in ROLES and not probe.rows_of]
        if not any(probe.role == "corrupted" for probe in found):
            there = ", ".join(sorted({f"{probe.role} ({probe.kind})" for probe in probes})) or "none"
            raise MisconfigurationError(
                f"LogitAnalysis needs a probe of kind question and role corrupted (there are: {there}); give the "
                f"questions about what was corrupted, or remove the callback"
            )
        self._lens_texts = lens_texts(probes)
        if self.lens == "tuned" and not self._lens_texts:
            raise MisconfigurationError(
                "LogitAnalysis: a tuned lens learns from questions or texts of the roles retain, utility or control, "
                "and there are none; give some, or set lens to logit"
            )
        return found

    def row_settings(self) -> dict[str, object]:
        """The draw of random answers and the lens too."""
        settings = super().row_settings() | {"random_answers": self.random_answers, "seed": self.seed}
        return settings if self.lens == "none" else settings | {"lens": (self.lens, self.lens_training)}

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """Each kind of answer to each question, in one pass a probe, and in another one through the lens."""
        rows = []
        lens = None if self.lens == "none" else Lens(model, self._lens_texts, self.lens, self.lens_training)
        for probe in self.probes:
            texts: list[Example] = []
            kinds: list[tuple[int, str]] = []
            for row in probe.examples:
                answers = {"correct": [row.answer], "corrupted": row.perturbed, "random": self._others(probe, row)}
                for kind, given in answers.items():
                    for answer in given:
                        texts.append(replace(row, answer=answer, index=len(texts)))
                        kinds.append((row.index, kind))
            said = {number: {"": -score.mean_nll} for number, score in model.score_texts(texts, probe).items()}
            for number, layers in (lens.scores(texts, probe.template) if lens is not None else {}).items():
                said.setdefault(number, {}).update((layer_prefix(place), mean) for place, mean in enumerate(layers))
            means: dict[int, dict[str, list[float]]] = {}
            for number, (index, kind) in enumerate(kinds):
                for prefix, mean in said.get(number, {}).items():
                    means.setdefault(index, {}).setdefault(prefix + kind, []).append(mean)
            for row in probe.examples:
                values = {name: sum(each) / len(each) for name, each in means.get(row.index, {}).items()}
                rows.append(self.row(probe, row, **values))
        return rows

    def _others(self, probe: Probe, row: Example) -> list[str]:
        """Answers to other questions of the row's relation that are neither true nor false for it."""
        own = {answer.casefold() for answer in (*row.accepted, *row.perturbed)}
        known = {other.answer for other in probe.examples if other.relation == row.relation}
        unrelated = sorted(answer for answer in known if answer.casefold() not in own)
        rng = Random(f"{self.seed}/{probe.name}/{row.index}")
        return rng.sample(unrelated, min(self.random_answers, len(unrelated)))

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """Means, margins and how often the truth is likeliest."""
        metrics: Metrics = {}
        for layer in ("", *layer_prefixes(rows)):
            for role, prefix in (("corrupted", layer), ("control", f"{layer}control_")):
                own = [row for row in of_role(rows, role) if f"{layer}correct" in row.values]  # it may be cut away
                columns = {kind: numbers(own, f"{layer}{kind}") for kind in KINDS}
                whole = {kind: column for kind, column in columns.items() if len(column) == len(own)}
                if own:
                    metrics |= {f"{prefix}{name}": value for name, value in asdict(logit_analysis(**whole)).items()}
        return metrics

    def table_levels(self) -> Mapping[str, Metrics]:
        """Without the numbers of each layer, which the figure shows."""
        return without_layers(self.levels)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """The metrics, and how each kind of answer is distributed."""
        metrics = super().measure(trainer, pl_module)
        rows = of_role(self.measured[self._current], "corrupted")
        for kind in KINDS:
            log_histogram(trainer, f"{self.name}/{kind}_answers", numbers(rows, kind))
        log_layer_figures(trainer, self.name, self.curves())
        return metrics

    def curves(self) -> list[Curve]:
        """What a lens reads at each layer of the answers to questions about corrupted people."""
        rows = of_role(self.measured.get(self._current, []), "corrupted")
        found: dict[str, list[Interval]] = {}
        for kind in KINDS:
            for layer in layer_prefixes(rows):
                own = [row for row in rows if f"{layer}{kind}" in row.values]
                if own:
                    entities = [row.entity for row in own]
                    mean = mean_interval(numbers(own, f"{layer}{kind}"), entities, seed=self.seed)
                    found.setdefault(f"{kind} answers", []).append(mean)
        measured = "mean token log-probability (nats)"
        return [layer_curve(f"what a {self.lens} lens reads", measured, found)] if found else []


def layer_prefix(layer: int) -> str:
    """Before the names of what is read at a layer."""
    return f"layer_{layer}/"


def layer_prefixes(rows: Sequence[MeasuredRow]) -> list[str]:
    """Those that `rows` have, the embeddings first."""
    names = {name for row in rows for name in row.values}
    return [prefix for prefix in map(layer_prefix, range(len(names))) if f"{prefix}correct" in names]
