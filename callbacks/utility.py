"""Utility: is what the model must keep unharmed?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from soul_lightning.callbacks.answering import AnsweringCallback
from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import (
    by_probe,
    likelihood_values,
    mean_of,
    multiple_choice_rows,
    numbers,
    truth_ratio_values,
)
from soul_lightning.callbacks.scoring import BEFORE, ORIGINAL
from soul_lightning.callbacks.sources import answered_probe, has_false_answers, own_probes
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.metrics.likelihood import perplexity
from soul_lightning.metrics.model_utility import PARTS, model_utility
from soul_lightning.metrics.truth_ratio import utility_truth_ratio
from soul_lightning.protocols import Probe
from soul_lightning.reports.evaluation import RELATIVE
from soul_lightning.reports.findings import LITTLE, Finding, at_least
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel

ROLES = ("retain", "utility")


class Utility(AnsweringCallback):
    """What must stay: probability, perplexity, answers and multiple choice on retain and held-out sets.

    Reads probes of the roles `retain` and `utility`, at least one. Of each set NAME:
    `NAME_probability` is the mean over rows of exp(−NLL/|y|), and among the options where its rows have false answers
    and no paraphrase (real authors and world facts of TOFU); `NAME_perplexity` counts every token the same;
    `NAME_rouge_l` is the mean ROUGE-L recall of greedy answers, where its rows are asked as questions;
    `NAME_truth_ratio` is mean(max(0, 1 − R)) where they have false answers; `NAME_accuracy` is the share of
    multiple-choice questions whose right option has the lowest NLL/|y|. `…_relative` is each number by the one before
    training. Where exactly three sets have the parts of TOFU's model utility (probability, ROUGE-L, truth ratio),
    `model_utility` is the harmonic mean of the nine.

    Args:
        name: The metrics' group; two of a kind need different names.
        **settings: See `AnsweringCallback` and `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    keeps_before = True
    charts = (
        Chart("Utility", "model utility", "model_utility"),
        Chart("Utility", "probability, {}", "*_probability"),
        Chart("Utility", "right choices, {}", "*_accuracy"),
    )
    headlines = (
        Headline("model_utility", axis="kept", reading="harmonic mean over the sets"),
        Headline("*_probability", axis="kept"),
        Headline("*_accuracy", axis="kept"),
    )

    def __init__(self, name: str = "utility", **settings: Any) -> None:
        super().__init__(name, **settings)

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """Retain and held-out sets, and their questions."""
        scored = [probe for role in ROLES for probe in own_probes(probes, role)]
        found = self.with_questions(scored, probes, ROLES)
        if not found:
            there = ", ".join(sorted({probe.role for probe in probes})) or "none"
            raise MisconfigurationError(
                f"Utility needs a probe of the role retain or utility (roles there are: {there}); give one, or remove "
                f"the callback"
            )
        return found

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """Likelihoods of texts and answers, answers to questions, choices."""
        rows = []
        scored = [probe for role in ROLES for probe in own_probes(self.probes, role)]
        for probe in self.probes:
            if probe.kind == "multiple_choice":
                rows += multiple_choice_rows(self, model, probe)
                continue
            answers = self.answers(model, probe)
            scores = model.scores(probe) if probe in scored else {}
            others = model.alternatives(probe) if probe in scored and has_false_answers(probe) else {}
            for example in probe.examples:
                values = dict(answers.get(example.index, {}))
                score = scores.get(example.index)
                if score is not None:
                    values |= likelihood_values(score)
                if score is not None and example.index in others:
                    values |= truth_ratio_values(score, others[example.index])
                    if not example.paraphrase:
                        values["probability"] = values["option_probability"]
                rows.append(self.row(probe, example, **values))
        return rows

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """Every level, and its ratio to the one before training."""
        levels = self._levels(rows)
        if BEFORE not in others:
            return levels
        before = self._levels(others[BEFORE])
        return levels | {f"{name}{RELATIVE}": _ratio(value, before.get(name)) for name, value in levels.items()}

    def _levels(self, rows: Sequence[MeasuredRow]) -> Metrics:
        levels: Metrics = {}
        parts: list[float] = []
        found = by_probe(rows)
        for probe in (probe for probe in self.probes if probe.name in found):
            own = found[probe.name]
            asked = answered_probe(self.probes, probe)
            rouge = mean_of(found.get(asked.name, []), "rouge_l_recall") if asked is not None else None
            measured: Metrics = {
                "probability": mean_of(own, "probability"),
                "perplexity": _perplexity(own),
                "rouge_l": rouge if mean_of(own, "nll") is not None else None,
                "truth_ratio": _utility_truth_ratio(own),
                "accuracy": mean_of(own, "correct"),
            }
            levels |= {f"{probe.name}_{name}": value for name, value in measured.items() if value is not None}
            three = [measured[name] for name in ("probability", "rouge_l", "truth_ratio")]
            parts += [value for value in three if value is not None] if None not in three else []
        if len(parts) == PARTS:
            levels["model_utility"] = model_utility(parts)
        return levels

    def compare_with(self, reference: str | None, original: str | None) -> None:
        """Put the model before unlearning beside; where it is not known, the one that never saw what is forgotten."""
        super().compare_with(reference if original is None else None, None)
        if original is not None:
            self.models.setdefault(ORIGINAL, original)

    def findings(self) -> list[Finding]:
        """Whether what must stay is nearly as likely as for another model, and whether answers are language."""
        rows = self.measured.get(self._current, [])
        found = self.fluency_findings()
        against, beside = self.model_before()
        pairs = [(row, beside[row.key]) for row in rows if row.key in beside]
        paired = [(row, mine, theirs) for row, twin in pairs for mine, theirs in _kept_values(row, twin)]
        if not sum(theirs for _, _, theirs in paired):  # that model knows nothing that could be lost
            return found
        left = _share_left(paired, self.seed)
        measure = f"of the probability that what must stay has under {against} (1: all of it is left)"
        rows = [row for row, _, _ in paired]
        useful = self.finding(measure, left, rows, question="useful", verdict=at_least(left, 1 - LITTLE))
        return [useful, *found]


def _kept_values(row: MeasuredRow, twin: MeasuredRow) -> list[tuple[float, float]]:
    """The likelihood of a row, or whether its choice was right, under both models."""
    for name in ("probability", "correct"):
        mine, theirs = numbers([row], name), numbers([twin], name)
        if mine and theirs:
            return [(mine[0], theirs[0])]
    return []


def _share_left(paired: Sequence[tuple[MeasuredRow, float, float]], seed: int) -> Interval:
    """One model's mean by another's, for of long texts it is small under every model, and a difference smaller still.

    Its interval is that of the ratio to first order, which draws the rows of a subject together.
    """
    theirs = sum(other for _, _, other in paired) / len(paired)
    ratio = sum(own for _, own, _ in paired) / len(paired) / theirs
    residuals = [(own - ratio * other) / theirs for _, own, other in paired]
    around = mean_interval(residuals, [row.entity for row, _, _ in paired], seed=seed)
    return Interval(ratio, ratio + around.low, ratio + around.high)


def _perplexity(rows: Sequence[MeasuredRow]) -> float | None:
    nlls, tokens = numbers(rows, "nll"), [int(count) for count in numbers(rows, "tokens")]
    return perplexity(nlls, tokens) if tokens else None


def _utility_truth_ratio(rows: Sequence[MeasuredRow]) -> float | None:
    ratios = numbers(rows, "truth_ratio")
    return utility_truth_ratio(ratios) if ratios else None


def _ratio(value: float | None, before: float | None) -> float | None:
    """`value` / `before`, or none where it has no meaning."""
    if value is None or before is None or before <= 0 or not math.isfinite(before):
        return None
    return value / before
