"""Membership inference: does the forget set still look like training data next to a holdout set?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array, Interval, entity_codes, entity_draws, percentile_interval

DRAWS_AT_ONCE = 256
"""Draws are worked off in blocks of this size, to bound memory."""


def area_under_curve(forget_scores: Sequence[float], holdout_scores: Sequence[float]) -> float:
    """P(a forget score is below a holdout score), ties counting one half.

    Args:
        forget_scores: [forget rows] a loss-like score, low for members (the mean NLL of a row).
        holdout_scores: [holdout rows] the same for rows that the model never saw.

    Returns:
        1: forget is still remembered; 0.5: it cannot be told from holdout (the ideal); below: it stands out as
        unlikely, which gives unlearning away.

    Raises:
        MisconfigurationError: A set is empty, or a score is not a number.
    """
    forget, holdout = _checked(forget_scores, "forget"), _checked(holdout_scores, "holdout")
    return float(_weighted_areas(forget, holdout, np.ones((1, len(forget))), np.ones((1, len(holdout))))[0])


def area_under_curve_interval(
    forget_scores: Sequence[float],
    holdout_scores: Sequence[float],
    *,
    forget_entities: Sequence[Hashable] | None = None,
    holdout_entities: Sequence[Hashable] | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`area_under_curve` with a bootstrap interval.

    Args:
        forget_scores: [forget rows] see `area_under_curve`.
        holdout_scores: [holdout rows].
        forget_entities: What each forget row is about; rows of one entity are drawn together. Each row is drawn by
            itself if none are given.
        holdout_entities: The same of the holdout rows.
        n_resamples: Bootstrap draws; both sets are drawn each time.
        confidence: Share of the draws inside the interval.
        seed: Seed of the draws.

    Raises:
        MisconfigurationError: A set is empty, or a score is not a number.
    """
    draws = _drawn_areas(forget_scores, holdout_scores, (forget_entities, holdout_entities), n_resamples, seed)
    return percentile_interval(area_under_curve(forget_scores, holdout_scores), draws, confidence)


def area_difference_interval(
    scores: tuple[Sequence[float], Sequence[float]],
    other_scores: tuple[Sequence[float], Sequence[float]],
    *,
    entities: tuple[Sequence[Hashable], Sequence[Hashable]],
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """One model's area under the curve less another's on the same rows, with an interval over draws of both alike.

    Args:
        scores: Forget and holdout scores of the model, [forget rows] and [holdout rows].
        other_scores: The same of the other model, row by row.
        entities: The entity of each forget and of each holdout row.
        n_resamples: Draws.
        confidence: Share of the draws inside.
        seed: Of the draws.

    Raises:
        MisconfigurationError: A set is empty, a score is not a number, or the models have other rows.
    """
    if [len(each) for each in scores] != [len(each) for each in other_scores]:
        raise MisconfigurationError("two models' areas can be compared on the same rows only; measure both on them")
    draws, others = (_drawn_areas(*each, entities, n_resamples, seed) for each in (scores, other_scores))
    difference = area_under_curve(*scores) - area_under_curve(*other_scores)
    return percentile_interval(difference, draws - others, confidence)


def privleak(area: float, retain_area: float) -> float:
    """PrivLeak: how far the area under the curve is from that of a model that never saw the forget set, in percent.

    Shi et al. 2025 (MUSE), whose areas count the other way round: 100 · ((1 − AUC) − (1 − AUC_retain)) /
    (1 − AUC_retain).

    Args:
        area: `area_under_curve` of the unlearned model.
        retain_area: The same of a model trained on the retain set alone, below 1.

    Returns:
        0: as if never learnt; below 0, down to −100: forget is still remembered; above: it stands out as unlikely.

    Raises:
        MisconfigurationError: An area is not between 0 and 1, or `retain_area` is 1.

    Example:
        >>> privleak(0.5, 0.5), privleak(1.0, 0.5), privleak(0.25, 0.5)
        (0.0, -100.0, 50.0)
    """
    if not (0 <= area <= 1 and 0 <= retain_area < 1):
        raise MisconfigurationError(
            f"PrivLeak needs an area under the curve from 0 to 1 and one below 1 of the retain-only model, got {area} "
            f"and {retain_area}; measure both on the same forget and holdout rows"
        )
    return 100 * ((1 - area) - (1 - retain_area)) / (1 - retain_area)


class MembershipArea(RowMetric):
    """`area_under_curve` of all rows of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = MembershipArea()
        >>> metric.update(forget_scores=[0.1, 0.2])
        >>> metric.update(forget_scores=[0.9], holdout_scores=[0.5, 0.9])
        >>> metric.compute().item()
        0.75
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("forget", "holdout", **settings)

    def update(
        self, forget_scores: Sequence[float] | Tensor = (), holdout_scores: Sequence[float] | Tensor = ()
    ) -> None:
        """Add rows of either set, or of both.

        Args:
            forget_scores: [forget rows] a loss-like score, low for members.
            holdout_scores: [holdout rows] the same for rows that the model never saw. The numbers may differ.
        """
        self.append(forget=forget_scores)
        self.append(holdout=holdout_scores)

    def compute(self) -> Tensor:
        """[] float64: 1 where forget is still remembered, 0.5 ideally.

        Raises:
            MisconfigurationError: A set is empty, or a score is not a number.
        """
        return self._number(self._area())

    def _area(self) -> float:
        return area_under_curve(self.rows("forget").tolist(), self.rows("holdout").tolist())


class PrivLeak(MembershipArea):
    """`privleak` of all rows of all processes.

    Args:
        retain_area: `area_under_curve` of a model trained on the retain set alone, on the same rows; below 1.
        settings: Of `torchmetrics.Metric`.

    Raises:
        MisconfigurationError: `retain_area` is not between 0 and 1, or is 1.

    Example:
        >>> metric = PrivLeak(retain_area=0.5)
        >>> metric.update(forget_scores=[0.1, 0.2, 0.9], holdout_scores=[0.5, 0.9])
        >>> metric.compute().item()
        -50.0
    """

    def __init__(self, retain_area: float, **settings: Any) -> None:
        super().__init__(**settings)
        privleak(0.5, retain_area)  # refuses an area that no model can have before anything is scored
        self.retain_area = retain_area

    def compute(self) -> Tensor:
        """[] float64, in percent: 0 as if never learnt, below 0 still remembered.

        Raises:
            MisconfigurationError: A set is empty, or a score is not a number.
        """
        return self._number(privleak(self._area(), self.retain_area))


def _checked(scores: Sequence[float], name: str) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    if not len(values) or np.isnan(values).any():
        what = "is empty" if not len(values) else f"has {int(np.isnan(values).sum())} scores that are not numbers"
        raise MisconfigurationError(
            f"the {name} set of the membership attack {what}; give it rows that the model can score"
        )
    return values


def _drawn_areas(
    forget_scores: Sequence[float],
    holdout_scores: Sequence[float],
    entities: tuple[Sequence[Hashable] | None, Sequence[Hashable] | None],
    n_resamples: int,
    seed: int,
) -> Array:
    """[resamples] areas; the same draws for the same entities and seed, whatever the scores."""
    forget, holdout = _checked(forget_scores, "forget"), _checked(holdout_scores, "holdout")
    forget_weights = _row_weights(entities[0], len(forget), n_resamples, seed)
    holdout_weights = _row_weights(entities[1], len(holdout), n_resamples, seed + 1)
    blocks = [
        _weighted_areas(forget, holdout, forget_weights[start:stop], holdout_weights[start:stop])
        for start, stop in ((start, start + DRAWS_AT_ONCE) for start in range(0, n_resamples, DRAWS_AT_ONCE))
    ]
    return np.concatenate(blocks)


def _row_weights(entities: Sequence[Hashable] | None, rows: int, n_resamples: int, seed: int) -> Array:
    """[resamples, rows] how often each row is in each draw."""
    codes, n_entities = entity_codes(entities) if entities is not None else (np.arange(rows), rows)
    return entity_draws(n_entities, n_resamples, seed)[:, codes]


def _weighted_areas(forget: Array, holdout: Array, forget_weights: Array, holdout_weights: Array) -> Array:
    """[draws] areas of weighted rows: one sort, then cumulative sums, so that no pair is ever formed."""
    order = np.argsort(holdout, kind="stable")
    ordered, weights = holdout[order], holdout_weights[:, order]
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1)], axis=1)
    total = below[:, -1:]
    not_above = below[:, np.searchsorted(ordered, forget, side="right")]
    strictly_below = below[:, np.searchsorted(ordered, forget, side="left")]
    wins = total - (not_above + strictly_below) / 2
    return np.asarray((forget_weights * wins).sum(axis=1) / (forget_weights.sum(axis=1) * total[:, 0]))
