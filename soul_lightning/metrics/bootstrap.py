"""Bootstrap draws of entities, and percentile intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soul_lightning.exceptions import MisconfigurationError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its bootstrap interval.

    Attributes:
        value: The number on the rows as they are.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def entity_codes(entities: Sequence[Hashable]) -> tuple[NDArray[np.int64], int]:
    """Number entities in the order of their names, so that the order of rows does not matter.

    Args:
        entities: The entity of each row.

    Returns:
        [rows] the number of each row's entity, and how many entities there are.
    """
    ordered = {entity: number for number, entity in enumerate(sorted(set(entities), key=repr))}
    return np.array([ordered[entity] for entity in entities], dtype=np.int64), len(ordered)


def entity_draws(n_entities: int, n_resamples: int, seed: int) -> Array:
    """[resamples, entities] how often each entity is in each draw of as many entities with replacement.

    Raises:
        MisconfigurationError: No draw is asked for.
    """
    if n_resamples < 1:
        raise MisconfigurationError(f"n_resamples must be >= 1 for a bootstrap interval, got {n_resamples}")
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_entities, np.full(n_entities, 1 / n_entities), size=n_resamples).astype(np.float64)


def percentile_interval(value: float, draws: Array, confidence: float = 0.95) -> Interval:
    """The percentile interval of `draws` around `value`; draws without a number (NaN) are left out.

    Args:
        value: The number on the rows as they are.
        draws: [resamples] the number on each draw.
        confidence: Share of the draws inside.

    Raises:
        MisconfigurationError: `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise MisconfigurationError(f"confidence must lie between 0 and 1, got {confidence}")
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high))
