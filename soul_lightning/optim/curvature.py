"""Diagonal curvature estimates for second-order optimizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn import functional

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions, full_precision
from soul_lightning.optim.counter_random import counter_uniform
from soul_lightning.optim.intervals import AdaptiveInterval

CurvatureSource = Literal["retain", "forget", "both", "clean", "full"]
"""The stream whose curvature is estimated; `both` are forget and retain, `clean` and `full` are fine-tuned on."""
Estimate = Callable[[int, Tensor], Tensor]
"""(number of the parameter, what was accumulated in its `.grad`) → ĥ of the parameter, float32; may reuse neither."""


class Backward(Protocol):
    """`Tensor.backward`, or Lightning's `manual_backward`."""

    def __call__(self, loss: Tensor, *, retain_graph: bool) -> None:
        """Add the gradient of `loss` to every parameter's `.grad`."""
        ...


def plain_backward(loss: Tensor, *, retain_graph: bool) -> None:
    """`Tensor.backward`."""
    loss.backward(retain_graph=retain_graph)


class CurvatureEstimator(ABC):
    """Estimates the curvature of the mean NLL over a step's N labelled tokens, one number a coordinate.

    Args:
        interval_steps: Optimizer steps between refreshes, or an `AdaptiveInterval`; the first refresh precedes the
            first step.
        source: Which stream's labelled positions are used. −L_forget + L_retain has indefinite curvature, so the
            default is the retain stream alone.
        fraction: Share of the rows that a refresh uses, each drawn by its index; below 1 a refresh is cheaper and
            noisier.
        seed: Seed of whatever is drawn.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    reuses_graph = True
    """Whether a graph that the surrogate went through can serve the training loss too."""

    def __init__(
        self,
        interval_steps: int | AdaptiveInterval = 10,
        source: CurvatureSource = "retain",
        fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        if isinstance(interval_steps, int) and interval_steps < 1:
            raise MisconfigurationError(
                f"{type(self).__name__}: interval_steps counts optimizer steps and must be >= 1, got {interval_steps}"
            )
        if source not in get_args(CurvatureSource):
            raise MisconfigurationError(
                f"{type(self).__name__}: source must be one of {', '.join(get_args(CurvatureSource))}, got {source!r}"
            )
        if not 0 < fraction <= 1:
            raise MisconfigurationError(f"{type(self).__name__}: fraction must lie in (0, 1], got {fraction}")
        self.interval_steps = interval_steps
        self.source = source
        self.fraction = fraction
        self.seed = seed

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that `source` stands for."""
        return ("forget", "retain") if self.source == "both" else (self.source,)

    def is_sampled(self, index: Tensor, step: int) -> Tensor:
        """Which rows a refresh uses: a function of (seed, step, example index), so that ranks and cuts change nothing.

        Args:
            index: [batch] `Example.index` of each row.
            step: The optimizer step.

        Returns:
            [batch] boolean.
        """
        return counter_uniform(self.seed + 1, torch.full_like(index, step), index) < self.fraction

    @abstractmethod
    def surrogate(self, predictions: Predictions, index: Tensor, step: int) -> Tensor:
        """The loss whose derivatives estimate the curvature, *summed* over labelled tokens.

        Args:
            predictions: Logits at labelled positions.
            index: [batch] `Example.index` of each row.
            step: The optimizer step.
        """

    def forward_context(self) -> AbstractContextManager[object]:
        """What the network's forward pass must run under."""
        return nullcontext()

    def accumulate(
        self, mean: Tensor, parameters: Sequence[Tensor], step: int, *, keep_graph: bool, backward: Backward
    ) -> None:
        """Add what `estimate` reads to the parameters' `.grad`: here the gradient.

        Args:
            mean: A micro-batch's share of the surrogate's mean over the whole step.
            parameters: The parameters that train, in the optimizer's order.
            step: The optimizer step.
            keep_graph: The graph is used again afterwards.
            backward: How to run backward.
        """
        del parameters, step
        backward(mean, retain_graph=keep_graph)

    def estimate(self, tokens: float, step: int) -> Estimate:
        """ĥ of a parameter from what was accumulated: N·ĝ².

        Args:
            tokens: N, labelled tokens of the refresh, over micro-batches and ranks.
            step: The optimizer step.
        """
        del step
        return lambda _number, gradient: gradient.to(torch.float32).square().mul_(tokens)


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
        # A row costs 16 bytes a token of the vocabulary in float64: a few hundred rows at a time.
        pairs = zip(logits.split(SAMPLED_ROWS), uniform.split(SAMPLED_ROWS), strict=True)
        return torch.cat([_inverted(rows, points) for rows, points in pairs])


SAMPLED_ROWS = 256
"""So many rows' labels are drawn together."""


def _inverted(logits: Tensor, uniform: Tensor) -> Tensor:
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    # The last entry may be 1 − 1e-16; scaling by it keeps every draw inside of the vocabulary.
    labels = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    return labels[:, 0].clamp_(max=logits.shape[-1] - 1)


class EmpiricalFisher(CurvatureEstimator):
    """N·ĝ² of the *real* labels' mean gradient: no sampling, and no Gauss-Newton diagonal either.

    It vanishes where the text is known by heart, however curved the loss is there. For comparison: most code that calls
    itself second-order squares real gradients.
    """

    def surrogate(self, predictions: Predictions, index: Tensor, step: int) -> Tensor:
        """Σ −log p_θ(y_t)."""
        return -predictions.log_probs.sum()
