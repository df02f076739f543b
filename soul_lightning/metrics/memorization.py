"""Memorisation, from which of a row's labelled tokens the teacher-forced argmax gets right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric


def exact_memorization(hits: Tensor) -> float:
    """The share of labelled tokens that the model's first choice gets right (Tirumala et al. 2022).

    Args:
        hits: [labelled] boolean, see `TokenStatistics.hits`; at least one.

    Returns:
        Between 0 and 1.

    Raises:
        MisconfigurationError: No token is labelled.

    Example:
        >>> import torch
        >>> exact_memorization(torch.tensor([True, False, True, True]))
        0.75
    """
    _check(hits, "exact memorisation")
    return int(hits.sum()) / len(hits)


def extraction_strength(hits: Tensor) -> float:
    """1 − k/|y|, k the shortest prefix after which every further token is the model's first choice.

    Carlini et al. 2021, teacher-forced as in later unlearning benchmarks. A row whose last token is wrong has nothing
    that can be extracted and scores 0; some implementations give it 1/|y|.

    Args:
        hits: [labelled] boolean, see `TokenStatistics.hits`; at least one.

    Returns:
        Between 0 and 1: 1 where every token is right.

    Raises:
        MisconfigurationError: No token is labelled.

    Example:
        >>> import torch
        >>> extraction_strength(torch.tensor([True, False, True, True]))
        0.5
        >>> extraction_strength(torch.tensor([True, True, True, False]))
        0.0
    """
    _check(hits, "extraction strength")
    wrong = hits.logical_not().nonzero()
    prefix = int(wrong[-1]) + 1 if len(wrong) else 0
    return 1 - prefix / len(hits)


class ExactMemorization(RowMetric):
    """Mean of `exact_memorization` over all rows of all processes, whatever their lengths.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = ExactMemorization()
        >>> metric.update([torch.tensor([True, False, True, True]), torch.tensor([True])])
        >>> metric.compute().item()
        0.875
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("shares", **settings)

    def update(self, hits: Sequence[Tensor]) -> None:
        """Add rows.

        Args:
            hits: By row [labelled] boolean, see `TokenStatistics.hits`.

        Raises:
            MisconfigurationError: A row has no labelled token.
        """
        self.append(shares=[exact_memorization(row) for row in hits])

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no row.
        """
        return self._mean("shares")


class ExtractionStrength(RowMetric):
    """Mean of `extraction_strength` over all rows of all processes, whatever their lengths.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = ExtractionStrength()
        >>> metric.update([torch.tensor([True, False, True, True]), torch.tensor([True, False])])
        >>> metric.compute().item()
        0.25
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("strengths", **settings)

    def update(self, hits: Sequence[Tensor]) -> None:
        """Add rows.

        Args:
            hits: By row [labelled] boolean, see `TokenStatistics.hits`.

        Raises:
            MisconfigurationError: A row has no labelled token.
        """
        self.append(strengths=[extraction_strength(row) for row in hits])

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no row.
        """
        return self._mean("strengths")


def _check(hits: Tensor, metric: str) -> None:
    if hits.dim() != 1 or not len(hits):
        raise MisconfigurationError(
            f"{metric} needs the labelled tokens of one row, got hits of shape {list(hits.shape)}; "
            f"leave out rows without an answer"
        )
