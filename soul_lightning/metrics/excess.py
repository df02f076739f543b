"""Shares of right answers above what guessing gets, with intervals that do not vanish where every row says the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval, entity_codes, entity_draws, percentile_interval

SAME = 1e-12
"""Means that are no further apart differ by rounding alone."""


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact two-sided interval of a share (Clopper & Pearson 1934).

    Args:
        hits: How many of them.
        trials: How many there are, at least one.
        confidence: Least probability that the interval holds the true share.

    Raises:
        MisconfigurationError: There are no trials, or more hits than trials.
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise MisconfigurationError(f"a share needs 0 <= hits <= trials and a trial, got {hits} of {trials}")
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(1 - tail, hits + 1, trials - hits))
    return Interval(hits / trials, low, high)


def mean_interval(
    values: Sequence[float],
    entities: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    is_share: bool = False,
) -> Interval:
    """The mean of rows with a bootstrap interval that draws the rows of an entity together.

    Percentiles are too narrow for few entities: they are moved out as Student's t asks (the expanded percentile
    interval, Hesterberg 2015). A bootstrap of entities that all have the same mean, such as a single one, has no width
    at all, however their rows differ: the interval then reaches as far to both sides as that of Clopper and Pearson for
    as many entities, none of which differs.

    Args:
        values: [rows], such as 1 for a right answer, or its difference to another model's.
        entities: The entity of each row.
        confidence: Of the interval.
        n_resamples: Draws.
        seed: Of the draws.
        is_share: The mean is of shares, from 0 to 1, and so is its interval.

    Raises:
        MisconfigurationError: There are no rows, or not as many entities as values.
    """
    if not values or len(values) != len(entities):
        raise MisconfigurationError(
            f"a mean needs at least one row with its entity, got {len(values)} values and {len(entities)} entities"
        )
    rows = np.asarray(values, dtype=np.float64)
    codes, n_entities = entity_codes(entities)
    sums, counts = np.bincount(codes, rows, n_entities), np.bincount(codes, minlength=n_entities)
    mean = float(rows.mean())
    if np.ptp(sums / counts) < SAME:
        width = clopper_pearson(0, n_entities, confidence).high
        low, high = mean - width, mean + width
        return Interval(mean, max(0.0, low), min(1.0, high)) if is_share else Interval(mean, low, high)
    draws = entity_draws(n_entities, n_resamples, seed)
    return percentile_interval(mean, (draws @ sums) / (draws @ counts), _expanded(confidence, n_entities))


def _expanded(confidence: float, n_entities: int) -> float:
    """The share of bootstrap draws that an interval of `confidence` takes."""
    t = stats.t.ppf((1 + confidence) / 2, n_entities - 1)
    share = 1 - 2 * stats.norm.sf(np.sqrt(n_entities / (n_entities - 1)) * t)
    return float(min(share, 1 - 1e-9))
