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
    as many entities, none of which differs. No draw goes beyond the entities that there are, and so few may by chance
    all lie on one side: where the confidence asks for more, the interval is at least that of Student's t.

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
        return _widened(Interval(mean, mean, mean), clopper_pearson(0, n_entities, confidence).high, is_share)
    draws = entity_draws(n_entities, n_resamples, seed)
    found = percentile_interval(mean, (draws @ sums) / (draws @ counts), expanded(confidence, n_entities))
    if too_few(n_entities, confidence):
        spread = np.std((sums - mean * counts) / counts.mean(), ddof=1) / np.sqrt(n_entities)
        return _widened(found, float(spread * stats.t.ppf((1 + confidence) / 2, n_entities - 1)), is_share)
    return found


def _widened(interval: Interval, width: float, is_share: bool) -> Interval:
    """Reaches at least `width` to both sides, and no share beyond 0 and 1."""
    low, high = min(interval.low, interval.value - width), max(interval.high, interval.value + width)
    return Interval(interval.value, max(0.0, low), min(1.0, high)) if is_share else Interval(interval.value, low, high)


def too_few(n_entities: int, confidence: float) -> bool:
    """Whether all entities lie on one side by chance more often than an interval of `confidence` may miss there."""
    return bool(0.5**n_entities > (1 - confidence) / 2)


def expanded(confidence: float, n_entities: int) -> float:
    """The share of bootstrap draws that an interval of `confidence` takes, of two entities or more."""
    t = stats.t.ppf((1 + confidence) / 2, n_entities - 1)
    share = 1 - 2 * stats.norm.sf(np.sqrt(n_entities / (n_entities - 1)) * t)
    return float(min(share, 1 - 1e-9))
