"""Likelihoods of texts and answers as numbers that can be compared: probability and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array


def perplexity(nlls: Sequence[float], tokens: Sequence[int]) -> float:
    """exp(Σ NLL / Σ |y|): every labelled token counts the same, whatever row it stands in.

    Args:
        nlls: [rows] NLL of each row, summed over its labelled tokens, in nats.
        tokens: [rows] labelled tokens of each row.

    Returns:
        The perplexity; infinity where it is beyond floating point.

    Raises:
        MisconfigurationError: No token is labelled.
    """
    total = sum(tokens)
    if len(nlls) != len(tokens) or total < 1:
        raise MisconfigurationError(
            f"perplexity needs one NLL and one token count a row and at least one token, got {len(nlls)} rows "
            f"with {total} tokens in {len(tokens)} counts; give rows with a labelled answer"
        )
    mean = math.fsum(nlls) / total
    return math.exp(mean) if mean < 700 else math.inf


def sequence_probability(nlls: Sequence[float], tokens: Sequence[int]) -> float:
    """Mean over rows of exp(−NLL/|y|), the geometric mean of a row's token probabilities (TOFU's probability).

    Args:
        nlls: [rows] NLL of each row, summed over its labelled tokens, in nats.
        tokens: [rows] labelled tokens of each row, all at least 1.

    Raises:
        MisconfigurationError: There is no row, or one without a labelled token.
    """
    if not len(nlls) or len(nlls) != len(tokens) or min(tokens) < 1:
        raise MisconfigurationError(
            f"probability needs rows with at least one labelled token each, got {len(nlls)} rows with the counts "
            f"{list(tokens)[:5]}; leave out rows without an answer"
        )
    return float(np.exp(-np.asarray(nlls, dtype=np.float64) / np.asarray(tokens)).mean())


def option_probability(
    nll_true: float, tokens_true: int, nlls_false: Sequence[float], tokens_false: Sequence[int]
) -> float:
    """p(true) / Σ p(option), p = exp(−NLL/|y|): how a model divides itself between the answers it is offered.

    TOFU's probability of real authors and world facts (Maini et al. 2024); Σ counts the true answer too.

    Args:
        nll_true: NLL of the true answer, summed over its labelled tokens, in nats.
        tokens_true: Its labelled tokens, at least 1.
        nlls_false: [options] the same of each other option; at least one.
        tokens_false: [options] the labelled tokens of each.

    Returns:
        Between 0 and 1; 1 / (1 + options) where the model prefers none.

    Raises:
        MisconfigurationError: There is no other option, one has no labelled token, an NLL is not finite, or the
            lengths differ.

    Example:
        >>> import math
        >>> round(option_probability(-math.log(0.5), 1, [-math.log(0.25), -2 * math.log(0.25)], [1, 2]), 6)
        0.5
    """
    nlls, tokens = np.array([nll_true, *nlls_false]), np.array([tokens_true, *tokens_false])
    if len(nlls) != len(tokens) or len(nlls) < 2 or tokens.min() < 1 or not np.isfinite(nlls).all():
        raise MisconfigurationError(
            f"option probability needs a true answer and at least one other, each with a finite NLL and a labelled "
            f"token, got the NLLs {nlls[:5].tolist()} of {tokens[:5].tolist()} tokens; leave out such rows"
        )
    log_probs = -nlls / tokens
    return float(np.exp(log_probs[0] - logsumexp(log_probs)))


class Probability(RowMetric):
    """`sequence_probability` of all rows of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> import math
        >>> metric = Probability()
        >>> metric.update(nlls=[math.log(2), 3 * math.log(4)], tokens=[1, 3])
        >>> round(metric.compute().item(), 6)
        0.375
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("nlls", "tokens", **settings)

    def update(self, nlls: Sequence[float] | Tensor, tokens: Sequence[int] | Tensor) -> None:
        """Add rows.

        Args:
            nlls: [rows] NLL of each row, summed over its labelled tokens, in nats.
            tokens: [rows] labelled tokens of each row, all at least 1.

        Raises:
            MisconfigurationError: The lengths differ.
        """
        self.append(nlls=nlls, tokens=tokens)

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no row, or one without a labelled token.
        """
        return self._number(sequence_probability(self.rows("nlls").tolist(), _counts(self.rows("tokens"))))


class Perplexity(RowMetric):
    """`perplexity` of all rows of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> import math
        >>> metric = Perplexity()
        >>> metric.update(nlls=[math.log(2), 3 * math.log(8)], tokens=[1, 4])
        >>> round(metric.compute().item(), 6)
        4.0
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("nlls", "tokens", **settings)

    def update(self, nlls: Sequence[float] | Tensor, tokens: Sequence[int] | Tensor) -> None:
        """Add rows.

        Args:
            nlls: [rows] NLL of each row, summed over its labelled tokens, in nats.
            tokens: [rows] labelled tokens of each row.

        Raises:
            MisconfigurationError: The lengths differ.
        """
        self.append(nlls=nlls, tokens=tokens)

    def compute(self) -> Tensor:
        """[] float64, at least 1; infinity where it is beyond floating point.

        Raises:
            MisconfigurationError: No token is labelled.
        """
        return self._number(perplexity(self.rows("nlls").tolist(), _counts(self.rows("tokens"))))


class OptionProbability(RowMetric):
    """Mean of `option_probability` over all rows of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> import math
        >>> metric = OptionProbability()
        >>> half, quarter = -math.log(0.5), -math.log(0.25)
        >>> metric.update([half, quarter], [1, 1], [[quarter, quarter], [half, quarter]], [[1, 1], [1, 1]])
        >>> round(metric.compute().item(), 6)
        0.375
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("probabilities", **settings)

    def update(
        self,
        nlls_true: Sequence[float] | Tensor,
        tokens_true: Sequence[int] | Tensor,
        nlls_false: Sequence[Sequence[float] | Tensor] | Tensor,
        tokens_false: Sequence[Sequence[int] | Tensor] | Tensor,
    ) -> None:
        """Add rows.

        Args:
            nlls_true: [rows] NLL of each true answer, summed over its labelled tokens, in nats.
            tokens_true: [rows] its labelled tokens.
            nlls_false: [rows, options] the same of the other options; rows may have different numbers of them.
            tokens_false: [rows, options] the labelled tokens of each.

        Raises:
            MisconfigurationError: The numbers of rows differ, or `option_probability` refuses a row.
        """
        true, counts = self._as_tensor(nlls_true).tolist(), _counts(self._as_tensor(tokens_true).numpy(force=True))
        if not len(true) == len(counts) == len(nlls_false) == len(tokens_false):
            raise MisconfigurationError(
                f"OptionProbability needs one entry a row in every argument, got {len(true)} true NLLs with "
                f"{len(counts)} token counts and {len(nlls_false)} rows of other options with {len(tokens_false)} rows "
                f"of counts; give the same rows to each"
            )
        false = [self._as_tensor(row).tolist() for row in nlls_false]
        false_counts = [_counts(self._as_tensor(row).numpy(force=True)) for row in tokens_false]
        rows = zip(true, counts, false, false_counts, strict=True)
        self.append(probabilities=[option_probability(*row) for row in rows])

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no row.
        """
        return self._mean("probabilities")


def _counts(column: Array) -> list[int]:
    return [int(count) for count in column]
