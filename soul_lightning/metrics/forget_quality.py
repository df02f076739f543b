"""Forget quality: can the truth ratios of an unlearned model be told from those of one that never learnt?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scipy.stats import ks_2samp
from torch import Tensor

from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array
from soul_lightning.metrics.truth_ratio import checked_ratios


def forget_quality(unlearned: Sequence[float] | Array, retain_only: Sequence[float] | Array) -> float:
    """The p-value of a two-sample Kolmogorov–Smirnov test on the forget rows (TOFU, Maini et al. 2024).

    Args:
        unlearned: [forget rows] truth ratios R of the unlearned model, see `soul_lightning.metrics.truth_ratio`.
        retain_only: [forget rows] those of a model trained on the retain set alone. The numbers may differ.

    Returns:
        Near 1: the two models cannot be told apart (the ideal); below 0.05: unlearning is incomplete or shows.

    Raises:
        MisconfigurationError: A model has no rows, or an R is negative or not a number.

    Example:
        >>> forget_quality([0.1, 0.5, 0.9], [0.9, 0.1, 0.5])
        1.0
    """
    return _kolmogorov_smirnov(checked_ratios(unlearned, "unlearned"), checked_ratios(retain_only, "retain-only"))


def soul_forget_quality(forget: Sequence[float] | Array, retain: Sequence[float] | Array) -> float:
    """What the code of SOUL (Jia et al. 2024) calls forget quality: one model, its forget rows against retain rows.

    No retain-only model takes part, so that it is another number than `forget_quality` and the two must not be
    compared. SOUL takes R with `aggregation="arithmetic"`.

    Args:
        forget: [forget rows] truth ratios R of the unlearned model on the forget set.
        retain: [retain rows] those of the same model on the retain set.

    Returns:
        The p-value of a two-sample Kolmogorov–Smirnov test.

    Raises:
        MisconfigurationError: A set has no rows, or an R is negative or not a number.
    """
    return _kolmogorov_smirnov(checked_ratios(forget, "forget"), checked_ratios(retain, "retain"))


class ForgetQualityPValue(RowMetric):
    """`forget_quality` of all rows of all processes.

    Args:
        retain_only: [forget rows] truth ratios of a model trained on the retain set alone, the same on every process.
        settings: Of `torchmetrics.Metric`.

    Raises:
        MisconfigurationError: `retain_only` has no rows, or one that is negative or not a number.

    Example:
        >>> metric = ForgetQualityPValue(retain_only=[0.9, 0.1, 0.5])
        >>> metric.update([0.1, 0.5, 0.9])
        >>> metric.compute().item()
        1.0
    """

    def __init__(self, retain_only: Sequence[float] | Array, **settings: Any) -> None:
        super().__init__("unlearned", **settings)
        self.retain_only = checked_ratios(retain_only, "retain-only")

    def update(self, unlearned: Sequence[float] | Array | Tensor) -> None:
        """Add rows.

        Args:
            unlearned: [forget rows] truth ratios R of the unlearned model.
        """
        self.append(unlearned=unlearned)

    def compute(self) -> Tensor:
        """[] float64, a p-value: near 1 where the two models cannot be told apart.

        Raises:
            MisconfigurationError: There is no row, or an R is negative or not a number.
        """
        return self._number(forget_quality(self.rows("unlearned"), self.retain_only))


class SoulForgetQualityPValue(RowMetric):
    """`soul_forget_quality` of all rows of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = SoulForgetQualityPValue()
        >>> metric.update(forget=[0.1, 0.5, 0.9], retain=[0.9, 0.1])
        >>> metric.update(retain=[0.5])
        >>> metric.compute().item()
        1.0
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("forget", "retain", **settings)

    def update(
        self, forget: Sequence[float] | Array | Tensor = (), retain: Sequence[float] | Array | Tensor = ()
    ) -> None:
        """Add rows of either set, or of both.

        Args:
            forget: [forget rows] truth ratios R of the unlearned model on the forget set.
            retain: [retain rows] those of the same model on the retain set. The numbers may differ.
        """
        self.append(forget=forget)
        self.append(retain=retain)

    def compute(self) -> Tensor:
        """[] float64, a p-value.

        Raises:
            MisconfigurationError: A set has no rows, or an R is negative or not a number.
        """
        return self._number(soul_forget_quality(self.rows("forget"), self.rows("retain")))


def _kolmogorov_smirnov(first: Array, second: Array) -> float:
    return float(ks_2samp(first, second).pvalue)
