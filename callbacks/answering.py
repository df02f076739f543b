"""What callbacks share that score rows and also let the model answer them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from soul_lightning.callbacks.row_values import FLUENT_ENOUGH, Values, answer_values, check_positive
from soul_lightning.callbacks.scoring import BEFORE, ORIGINAL, REFERENCE, ScoringCallback
from soul_lightning.callbacks.sources import answered_probe
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.protocols import Probe
from soul_lightning.reports.findings import LITTLE, Finding, at_least
from soul_lightning.reports.loggers import log_table
from soul_lightning.reports.tables import ANSWER_COLUMNS, AnswerPair, sampled_answers
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel


class AnsweringCallback(ScoringCallback):
    """A `ScoringCallback` for which the rows that are scored are also asked as questions, and choices are made.

    Args:
        name: The metrics' group.
        answer: Generate answers for ROUGE-L, which takes longer than all else.
        max_new_tokens: Most tokens of an answer.
        batch_size: Questions answered at once.
        **settings: See `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    def __init__(
        self, name: str, answer: bool = True, max_new_tokens: int = 64, batch_size: int = 32, **settings: Any
    ) -> None:
        super().__init__(name, **settings)
        check_positive(type(self).__name__, max_new_tokens=max_new_tokens, batch_size=batch_size)
        self.answer = answer
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size

    def row_settings(self) -> dict[str, object]:
        """Answers depend on their length too."""
        return super().row_settings() | ({"max_new_tokens": self.max_new_tokens} if self.answer else {})

    def with_questions(self, scored: Sequence[Probe], probes: Sequence[Probe], roles: Sequence[str]) -> list[Probe]:
        """The scored probes, those of `probes` that ask their rows, and the multiple-choice sets of `roles`."""
        asked = [answered_probe(probes, probe) for probe in scored] if self.answer else []
        chosen = [probe for probe in probes if probe.role in roles and probe.kind == "multiple_choice"]
        return [*scored, *(probe for probe in asked if probe is not None and probe not in scored), *chosen]

    def answers(self, model: ScoredModel, probe: Probe) -> dict[int, Values]:
        """See `answer_values`; none of a probe that is not asked."""
        if not self.answer or probe.kind != "question":
            return {}
        return answer_values(model, probe, self.max_new_tokens, self.batch_size)

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show some answers before and after training."""
        super().finish(trainer, pl_module)
        pairs = self._answer_pairs()
        if pairs:
            log_table(trainer, f"{self.name}/answers", ANSWER_COLUMNS, sampled_answers(pairs, seed=self.seed))

    def _answer_pairs(self) -> list[AnswerPair]:
        """What the model before training and the present one answer; nothing where one of them was not asked."""
        asked = {(probe.name, row.index): row for probe in self.probes for row in probe.examples}
        before = {row.key: row.values["answer"] for row in self.measured.get(BEFORE, []) if "answer" in row.values}
        return [
            AnswerPair(
                row.probe, asked[row.key].prompt, asked[row.key].answer, str(before[row.key]), str(row.values["answer"])
            )
            for row in self.measured.get(self._current, [])
            if row.key in before and row.key in asked and "answer" in row.values
        ]

    def model_before(self) -> tuple[str, dict[tuple[str, int], MeasuredRow]]:
        """The model before unlearning in words, or the one that never saw what is forgotten, and its rows by key."""
        other = next((name for name in (BEFORE, ORIGINAL, REFERENCE) if name in self.measured), "")
        words = "a model that never saw what is forgotten" if other == REFERENCE else "the model before"
        return words, {row.key: row for row in self.measured.get(other, [])}

    def fluency_findings(self) -> list[Finding]:
        """The share of answers that are language at all; nothing where no question was answered.

        A small model writes little that is language before anything is forgotten: where it is known, and the share is
        not high in itself, the two are compared.
        """
        asked = [row for row in self.measured.get(self._current, []) if "fluent" in row.values]
        if not asked:
            return []
        own = {row.key: float(row.values["fluent"]) for row in asked}
        value = mean_interval(list(own.values()), [row.entity for row in asked], seed=self.seed, is_share=True)
        measure, verdict = "share of answers that are language", at_least(value, FLUENT_ENOUGH)
        against, beside = self.model_before()
        both = [beside[row.key] for row in asked if row.key in beside and "fluent" in beside[row.key].values]
        if verdict != "yes" and both:
            losses = [own[row.key] - float(row.values["fluent"]) for row in both]
            value = mean_interval(losses, [row.entity for row in both], seed=self.seed)
            measure, verdict = f"{measure}, less that of {against}", at_least(value, -LITTLE)
        return [self.finding(measure, value, asked, question="fluent", verdict=verdict)]
