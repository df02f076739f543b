"""Diagonal curvature estimates for second-order optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions, full_precision

CurvatureSource = Literal["retain", "forget", "both"]
"""The stream whose curvature is estimated."""


class CurvatureEstimator(ABC):
    """Estimates ĥ = N·ĝ², ĝ the gradient of a mean surrogate loss over the N labelled tokens of a step.

    Args:
        interval_steps: Optimizer steps between refreshes; the first is made before the first step.
        source: Which stream's labelled positions are used. −L_forget + L_retain has indefinite curvature, so the
            default is the retain stream alone.
        seed: Seed of whatever is drawn.
    """

    def __init__(self, interval_steps: int = 10, source: CurvatureSource = "retain", seed: int = 0) -> None:
        if interval_steps < 1:
            raise MisconfigurationError(
                f"{type(self).__name__}: interval_steps counts optimizer steps and must be >= 1, got {interval_steps}"
            )
        if source not in ("retain", "forget", "both"):
            raise MisconfigurationError(f"{type(self).__name__}: source must be retain, forget or both, got {source!r}")
        self.interval_steps = interval_steps
        self.source = source
        self.seed = seed

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that `source` stands for."""
        return ("forget", "retain") if self.source == "both" else (self.source,)

    def is_due(self, step: int) -> bool:
        """Whether a refresh precedes the optimizer step number `step` (from 0)."""
        return step % self.interval_steps == 0

    @abstractmethod
    def surrogate(self, predictions: Predictions, index: Tensor, step: int) -> Tensor:
        """The loss whose squared gradient estimates the curvature, *summed* over labelled tokens.

        Args:
            predictions: Logits at labelled positions.
            index: [batch] `Example.index` of each row.
            step: The optimizer step.
        """


class GaussNewtonBartlett(CurvatureEstimator):
    """The Gauss-Newton-Bartlett estimator (Liu et al. 2023, algorithm 2): labels sampled from the model's own softmax.

    E[N ĝ²] over the sampled labels is the diagonal of the Gauss-Newton matrix of the mean NLL. Each label is a function
    of (seed, step, example index, place among the labelled tokens), so that neither padding, nor micro-batches, nor
    the number of processes changes the estimate.
    """

    def surrogate(self, predictions: Predictions, index: Tensor, step: int) -> Tensor:
        """Σ −log p_θ(ŷ_t) with ŷ_t drawn from p_θ."""
        logits = full_precision(predictions.logits)
        labels = self.sample(logits.detach(), index[predictions.rows], predictions.ordinals, step)
        return functional.cross_entropy(logits, labels, reduction="sum")

    def sample(self, logits: Tensor, index: Tensor, ordinals: Tensor, step: int) -> Tensor:
        """Draw one label a row by inverting the cumulative distribution.

        Args:
            logits: [labelled, vocabulary].
            index: [labelled] the example that each row belongs to.
            ordinals: [labelled] the row's place in its example.
            step: The optimizer step.

        Returns:
            [labelled] token ids.
        """
        uniform = counter_uniform(self.seed, torch.full_like(index, step), index, ordinals)
        cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
        # The last entry may be 1 − 1e-16; scaling by it keeps every draw inside of the vocabulary.
        labels = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
        return labels[:, 0].clamp_(max=logits.shape[-1] - 1)


def counter_uniform(seed: int, *counters: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) that depend on nothing but `seed` and the counters.

    A chain of SplitMix64 finalisers (Steele et al. 2014), one a counter; no generator state is read or changed.

    Args:
        seed: Any integer.
        counters: int64 tensors of one shape.

    Returns:
        float64 tensor of that shape.
    """
    state = torch.full_like(counters[0], _signed(seed * 0x9E3779B97F4A7C15), dtype=torch.int64)
    for counter in counters:
        state = _mix(state + (counter.to(torch.int64) + 1) * _signed(0x9E3779B97F4A7C15))
    return _shift_right(state, 11).double() * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's int64 shift copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The 64-bit pattern of `value` as the signed integer that torch takes."""
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >= 1 << 63 else value
