"""Truth ratio: how likely a model finds false answers next to the true one in other words (TOFU, Maini et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.special import logsumexp
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array

Aggregation = Literal["geometric", "arithmetic"]
"""How the probabilities of several false answers become one number."""
Statistic = Literal["forget", "utility", "prob_mean"]
"""Which number the ratios of all rows become: `forget_truth_ratio`, `utility_truth_ratio` or `prob_mean`."""


def truth_ratio(
    paraphrased: Sequence[float],
    perturbed: Sequence[Sequence[float]],
    aggregation: Aggregation = "geometric",
) -> Array:
    """R = p(false answers) / p(true answer), p = exp(−NLL/|y|) the probability of an answer for its length.

    Args:
        paraphrased: [rows] NLL/|y| of the true answer in other words, in nats a token; of the plain answer where a set
            has no paraphrase (real authors, world facts).
        perturbed: [rows, answers] the same of each false answer; rows may have different numbers of them.
        aggregation: The false answers' mean probability: `geometric`, exp(−mean_j NLL_j/|y_j|), as TOFU defines it;
            `arithmetic`, mean_j exp(−NLL_j/|y_j|), as the code of SOUL computes it.

    Returns:
        [rows] R, at least 0: below 1 where the model prefers the truth; infinite where it is beyond floating point.

    Raises:
        MisconfigurationError: The lengths do not match, a row has no false answer, an NLL is not finite, or the
            aggregation is unknown.

    Example:
        >>> import math
        >>> nll = [-math.log(0.5)], [[-math.log(0.1), -math.log(0.4)]]
        >>> truth_ratio(*nll).round(4).tolist(), truth_ratio(*nll, aggregation="arithmetic").round(4).tolist()
        ([0.4], [0.5])
    """
    _check_aggregation(aggregation)
    true = np.asarray(paraphrased, dtype=np.float64)
    false = [np.asarray(answers, dtype=np.float64) for answers in perturbed]
    _check(true, false)
    if aggregation == "geometric":
        log_false = np.array([-answers.mean() for answers in false])
    else:
        log_false = np.array([float(logsumexp(-answers)) - np.log(len(answers)) for answers in false])
    with np.errstate(over="ignore"):
        return np.exp(log_false + true)


def forget_truth_ratio(ratios: Sequence[float] | Array) -> float:
    """mean(min(R, 1/R)): 1 where true and false answers are equally likely, 0 where either is certain.

    Args:
        ratios: [rows] R, see `truth_ratio`.

    Raises:
        MisconfigurationError: There is no row, or an R is negative or not a number.

    Example:
        >>> forget_truth_ratio([0.5, 2.0, 1.0, 0.0])
        0.5
    """
    values = checked_ratios(ratios)
    with np.errstate(divide="ignore", over="ignore"):  # 1/0 is infinite, and the lesser of the two is 0
        return float(np.minimum(values, 1 / values).mean())


def utility_truth_ratio(ratios: Sequence[float] | Array) -> float:
    """mean(max(0, 1 − R)): 1 where only the truth is likely, 0 where false answers are at least as likely.

    Args:
        ratios: [rows] R, see `truth_ratio`.

    Raises:
        MisconfigurationError: There is no row, or an R is negative or not a number.

    Example:
        >>> utility_truth_ratio([0.5, 2.0, 1.0, 0.0])
        0.375
    """
    return float(np.maximum(0, 1 - checked_ratios(ratios)).mean())


def prob_mean(ratios: Sequence[float] | Array) -> float:
    """mean(p_true / (p_true + p_false)) = mean(1 / (1 + R)): the share that the truth has next to false answers.

    Args:
        ratios: [rows] R, see `truth_ratio`, with the geometric mean.

    Raises:
        MisconfigurationError: There is no row, or an R is negative or not a number.

    Example:
        >>> prob_mean([1.0, 3.0])
        0.375
    """
    return float((1 / (1 + checked_ratios(ratios))).mean())


class TruthRatio(RowMetric):
    """One number of the truth ratios of all rows of all processes; `rows("ratios")` are the ratios themselves.

    Args:
        statistic: `forget`, mean(min(R, 1/R)); `utility`, mean(max(0, 1 − R)); or `prob_mean`, mean(1 / (1 + R)).
        aggregation: How the probabilities of several false answers become one, see `truth_ratio`.
        settings: Of `torchmetrics.Metric`.

    Raises:
        MisconfigurationError: The statistic or the aggregation is unknown.

    Example:
        >>> import math
        >>> metric = TruthRatio("utility")
        >>> metric.update([-math.log(0.5)], [[-math.log(0.1), -math.log(0.4)]])
        >>> round(metric.compute().item(), 6)
        0.6
    """

    def __init__(
        self, statistic: Statistic = "forget", aggregation: Aggregation = "geometric", **settings: Any
    ) -> None:
        super().__init__("ratios", **settings)
        if statistic not in _STATISTICS:
            raise MisconfigurationError(f"statistic must be 'forget', 'utility' or 'prob_mean', got {statistic!r}")
        _check_aggregation(aggregation)
        self.statistic = statistic
        self.aggregation = aggregation

    def update(
        self, paraphrased: Sequence[float] | Tensor, perturbed: Sequence[Sequence[float] | Tensor] | Tensor
    ) -> None:
        """Add rows.

        Args:
            paraphrased: [rows] NLL/|y| of the true answer in other words, in nats a token.
            perturbed: [rows, answers] the same of each false answer; rows may have different numbers of them.

        Raises:
            MisconfigurationError: The lengths do not match, a row has no false answer, or an NLL is not finite.
        """
        false = [self._as_tensor(answers).tolist() for answers in perturbed]
        self.append(ratios=truth_ratio(self._as_tensor(paraphrased).tolist(), false, self.aggregation))

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no row.
        """
        return self._number(_STATISTICS[self.statistic](self.rows("ratios")))


_STATISTICS: Mapping[Statistic, Callable[[Array], float]] = {
    "forget": forget_truth_ratio,
    "utility": utility_truth_ratio,
    "prob_mean": prob_mean,
}


def checked_ratios(ratios: Sequence[float] | Array, name: str = "truth") -> Array:
    """Truth ratios as an array.

    Args:
        ratios: [rows] R.
        name: Which ratios they are, for the error.

    Raises:
        MisconfigurationError: There is no row, or an R is negative or not a number.
    """
    values = np.asarray(ratios, dtype=np.float64)
    unusable = int((~(values >= 0)).sum())
    if not len(values) or unusable:
        what = f"{unusable} of {len(values)} rows have one below 0 or that is not a number" if len(values) else "none"
        raise MisconfigurationError(
            f"the {name} ratios must be at least one and none below 0, got {what}; "
            f"give rows with a true answer and false ones that the model can score"
        )
    return values


def _check_aggregation(aggregation: str) -> None:
    if aggregation not in ("geometric", "arithmetic"):
        raise MisconfigurationError(f"aggregation must be 'geometric' or 'arithmetic', got {aggregation!r}")


def _check(true: Array, false: Sequence[Array]) -> None:
    if len(true) != len(false) or not all(len(answers) for answers in false):
        counts = [len(answers) for answers in false]
        raise MisconfigurationError(
            f"the truth ratio needs for each row a true answer and at least one false one, got {len(true)} true "
            f"answers and {counts[:5]}{'…' if len(counts) > 5 else ''} false ones; leave out rows without them"
        )
    for row, answers in enumerate(false):
        if not (np.isfinite(true[row]) and np.isfinite(answers).all()):
            raise MisconfigurationError(
                f"the truth ratio needs finite NLLs, and row {row} has {true[row]} for the true answer and "
                f"{answers.tolist()} for the false ones; the model's logits are beyond floating point, so load sound "
                f"weights or score in float32"
            )
