"""Memorization: how much of the forget rows can still be had from the model word for word?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soul_lightning.callbacks.answering import AnsweringCallback
from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import (
    by_probe,
    likelihood_values,
    mean_of,
    memorization_values,
    multiple_choice_rows,
)
from soul_lightning.callbacks.scoring import ORIGINAL
from soul_lightning.callbacks.sources import likelihood_probes, missing_roles
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Probe
from soul_lightning.reports.findings import Finding
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel


class Memorization(AnsweringCallback):
    """Probability, exact memorisation, extraction strength and ROUGE-L of what is to be forgotten, 1 where all is kept.

    Needs a probe of the role `forget` with texts or questions. All but ROUGE-L are teacher-forced and come from one
    pass; ROUGE-L compares greedy answers, where the rows are asked as questions. `fluency` is the share of these
    answers that are language at all: gibberish is no forgetting. Of multiple-choice sets of the role `forget`,
    `NAME_accuracy` is the share of right choices.

    Args:
        name: The metrics' group; two of a kind need different names.
        **settings: See `AnsweringCallback` and `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    charts = (
        Chart("Forget against retain", "probability of what is to be forgotten", "probability"),
        Chart("Privacy", "exact memorisation (1: word for word)", "exact_memorization"),
        Chart("Privacy", "extraction strength (1: from the first word on)", "extraction_strength"),
        Chart("Forget against retain", "right choices, {}", "*_accuracy"),
    )
    headlines = (
        Headline("probability", "forget probability", "forgotten", "0: nothing is left"),
        Headline("exact_memorization"),
        Headline("extraction_strength"),
        Headline("rouge_l", "forget ROUGE-L"),
        Headline("*_accuracy", axis="forgotten"),
    )

    def __init__(self, name: str = "memorization", **settings: Any) -> None:
        super().__init__(name, **settings)

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """The forget rows, as texts, as questions and as choices."""
        missing = missing_roles(probes, ("forget",))
        if missing:
            raise MisconfigurationError(
                f"Memorization needs texts or questions of the role forget, and {missing}; give the rows that are "
                f"forgotten, or remove the callback"
            )
        scored = likelihood_probes(probes, "forget")
        return self.with_questions(scored, probes, ("forget",))

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """What each row's own answer is worth, what is answered in its place, and which option is chosen."""
        rows = []
        scored = likelihood_probes(self.probes, "forget")
        for probe in self.probes:
            if probe.kind == "multiple_choice":
                rows += multiple_choice_rows(self, model, probe)
                continue
            answers = self.answers(model, probe)
            scores = model.scores(probe) if probe in scored else {}
            for example in probe.examples:
                values = dict(answers.get(example.index, {}))
                if example.index in scores:
                    score = scores[example.index]
                    values |= likelihood_values(score) | memorization_values(score)
                rows.append(self.row(probe, example, **values))
        return rows

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """Means over rows."""
        names = {
            "probability": "probability",
            "exact_memorization": "exact_memorization",
            "extraction_strength": "extraction_strength",
            "rouge_l": "rouge_l_recall",
            "rouge_l_f1": "rouge_l_f1",
            "fluency": "fluent",
        }
        metrics = {metric: mean_of(rows, value) for metric, value in names.items()}
        choices = {f"{probe}_accuracy": mean_of(own, "correct") for probe, own in by_probe(rows).items()}
        return {name: value for name, value in {**metrics, **choices}.items() if value is not None}

    def compare_with(self, reference: str | None, original: str | None) -> None:
        """Put the model that never saw what is forgotten beside; where it is not known, the one before unlearning."""
        super().compare_with(reference, None)
        if reference is None and original is not None:
            self.models.setdefault(ORIGINAL, original)

    def findings(self) -> list[Finding]:
        """Whether the answers to what is forgotten are language."""
        return self.fluency_findings()
