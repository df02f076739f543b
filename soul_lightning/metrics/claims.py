"""What a claim about unlearning rests on: differences between models on the same draws, and who is recovered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Array, Interval, entity_draws, percentile_interval
from soul_lightning.metrics.restoration_draws import Answers, RestorationDraws
from soul_lightning.scoring.answers import AnswerRow, check_same_questions

LEAST_DIFFERENCE = 0.05
"""A difference (in restoration, or of a correlation from 0) that is surely smaller is none worth the name."""
Verdict = Literal["confirmed", "not confirmed", "unclear"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What the restoration of a model is measured against.

    Attributes:
        clean: The model before corruption.
        corrupted: The corrupted model that it started from.
    """

    clean: str
    corrupted: str


@dataclass(frozen=True, slots=True)
class Contrast:
    """The mean of some models minus the mean of others, each against its own corruption.

    Attributes:
        restoration: Difference of restorations; none where too little was lost to say.
        false_share: Difference of the shares of false answers.
        accuracy_control: Difference of the accuracies on control people; none without such questions.
    """

    restoration: Interval | None
    false_share: Interval
    accuracy_control: Interval | None


@dataclass(frozen=True, slots=True)
class Dependence:
    """How what came back depends on the clean model's confidence.

    Attributes:
        correlation: Spearman's rank correlation, over the lost facts, of the probability that the clean model gave the
            true answer with whether the unlearned model gives it; none where either is the same for all.
        facts: The lost facts: the clean model answered truly, the corrupted one did not.
        recovered_below: Share that came back of the half about which the clean model was less sure.
        recovered_above: Share that came back of the other half.
    """

    correlation: Interval | None
    facts: int
    recovered_below: float
    recovered_above: float


def contrast(
    rows: Mapping[str, Sequence[AnswerRow]],
    origins: Mapping[str, Origin],
    of: Sequence[str],
    minus: Sequence[str] = (),
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Contrast:
    """The mean over the models `of` less the mean over the models `minus`, on the same draws of entities.

    Args:
        rows: Each model's answers to the same questions, over all seeds.
        origins: Of each of the models, what its restoration is measured against.
        of: Models.
        minus: Models; without any the mean itself is given.
        n_resamples: Bootstrap draws.
        confidence: Share of the draws inside an interval.
        seed: Seed of the draws, those of `compare_restoration` with the same seed.

    Raises:
        MisconfigurationError: The models answered different questions, or none about corrupted people.
    """
    check_same_questions(rows)
    answers, control = _tables(rows), Answers.of(rows, "control")
    draws = {
        origin: RestorationDraws(answers, control, origin.clean, origin.corrupted, n_resamples, confidence, seed)
        for origin in {origins[model] for model in (*of, *minus)}
    }

    def difference(number: str) -> Interval | None:
        values: list[Array] = []
        for models, sign in ((of, 1.0), (minus, -1.0)):
            found = [getattr(draws[origins[model]], number)(model) for model in models]
            if any(each is None for each in found):
                return None
            values += [sign * each / len(models) for each in found]
        return draws[origins[of[0]]].interval(np.sum(values, axis=0))

    false_share = difference("false_share")
    assert false_share is not None
    return Contrast(difference("restoration"), false_share, difference("control_accuracy"))


def recovery_by_confidence(
    rows: Mapping[str, Sequence[AnswerRow]],
    origin: Origin,
    model: str,
    probabilities: Mapping[tuple[int, str, int], float],
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Dependence:
    """Whether the facts that the clean model was surer of are those that come back; entities are resampled.

    Args:
        rows: The answers of the model, of the clean and of the corrupted one to the same questions.
        origin: Which the clean and the corrupted model are.
        model: The unlearned model.
        probabilities: By `AnswerRow.key`, the probability of the true answer under the clean model.
        n_resamples: Bootstrap draws.
        confidence: Share of the draws inside the interval.
        seed: Seed of the draws.

    Raises:
        MisconfigurationError: The models answered different questions, or none about corrupted people.
    """
    own = {name: rows[name] for name in (origin.clean, origin.corrupted, model)}
    check_same_questions(own)
    answers = _tables(own)
    lost = np.flatnonzero((answers.true[origin.clean] == 1) & (answers.true[origin.corrupted] == 0))
    sure = np.array([probabilities[answers.keys[place]] for place in lost], dtype=np.float64)
    recovered, entity = answers.true[model][lost], answers.entity[lost]
    order = np.argsort(sure, kind="stable")
    halves = (order[: len(order) // 2], order[len(order) // 2 :])
    below, above = (float(recovered[half].mean()) if len(half) else float("nan") for half in halves)
    value = _rank_correlation(sure, recovered)
    if np.isnan(value):
        return Dependence(None, len(lost), below, above)
    times = entity_draws(answers.n_entities, n_resamples, seed).astype(np.int64)[:, entity]
    drawn = [_rank_correlation(np.repeat(sure, often), np.repeat(recovered, often)) for often in times]
    return Dependence(percentile_interval(value, np.array(drawn), confidence), len(lost), below, above)


def verdict(interval: Interval | None) -> Verdict:
    """What an interval says to a claim that a number is above 0.

    Confirmed where all of it lies above 0; not confirmed where all of it lies below `LEAST_DIFFERENCE`; unclear where
    it holds both, or where there is none.
    """
    if interval is None or not np.isfinite((interval.low, interval.high)).all():
        return "unclear"
    if interval.low > 0:
        return "confirmed"
    return "not confirmed" if interval.high < LEAST_DIFFERENCE else "unclear"


def _tables(rows: Mapping[str, Sequence[AnswerRow]]) -> Answers:
    answers = Answers.of(rows, "corrupted")
    if answers is None:
        raise MisconfigurationError(
            f"the answers of {', '.join(map(repr, rows))} hold no row of role 'corrupted', so there is nothing to "
            f"restore; answer a probe with that role"
        )
    return answers


def _rank_correlation(one: Array, other: Array) -> float:
    """Spearman's; not a number where one of the two is the same for all."""
    if not len(one) or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
