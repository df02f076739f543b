"""Hutchinson's estimator of the Hessian's diagonal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions
from soul_lightning.optim.curvature import Backward, CurvatureEstimator, CurvatureSource, Estimate
from soul_lightning.optim.intervals import AdaptiveInterval


class Hutchinson(CurvatureEstimator):
    """ĥ = u ⊙ Hu, H the Hessian of the mean NLL of the real labels (Hutchinson 1989; Liu et al. 2023, algorithm 1).

    E[ĥ] is the Hessian's diagonal, which may be negative: `Sophia` clamps the denominator, so that such a coordinate
    takes a sign step. A refresh differentiates twice: about three times the work and memory of a gradient.

    Args:
        interval_steps: Optimizer steps between refreshes, or an `AdaptiveInterval`.
        source: Which stream's labelled positions are used.
        fraction: Share of the rows that a refresh uses.
        seed: Seed of u, which is a function of (seed, step, number of the parameter): the same on every rank.
        distribution: `rademacher` (±1, the lower variance) or `gaussian`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    reuses_graph = False

    def __init__(
        self,
        interval_steps: int | AdaptiveInterval = 10,
        source: CurvatureSource = "retain",
        fraction: float = 1.0,
        seed: int = 0,
        distribution: Literal["rademacher", "gaussian"] = "rademacher",
    ) -> None:
        super().__init__(interval_steps, source, fraction, seed)
        if distribution not in ("rademacher", "gaussian"):
            raise MisconfigurationError(
                f"Hutchinson: distribution must be rademacher or gaussian, got {distribution!r}"
            )
        self.distribution = distribution

    def surrogate(self, predictions: Predictions, index: Tensor, step: int) -> Tensor:
        """Σ −log p_θ(y_t)."""
        return -predictions.log_probs.sum()

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """The plain attention kernel and uncompiled code: fused and compiled kernels cannot be differentiated twice."""
        with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
            yield

    def accumulate(
        self, mean: Tensor, parameters: Sequence[Tensor], step: int, *, keep_graph: bool, backward: Backward
    ) -> None:
        """Add Hu to the parameters' `.grad`; over micro-batches (and ranks) the parts add up to that of the mean."""
        del backward
        gradients = torch.autograd.grad(mean, parameters, create_graph=True, allow_unused=True)
        product = sum(
            (gradient * self.direction(number, gradient, step)).sum()
            for number, gradient in enumerate(gradients)
            if gradient is not None
        )
        if not isinstance(product, Tensor) or not product.requires_grad:  # no part of the loss bends
            return
        products = torch.autograd.grad(product, parameters, retain_graph=keep_graph, allow_unused=True)
        for parameter, second in zip(parameters, products, strict=True):
            if second is not None:
                parameter.grad = second if parameter.grad is None else parameter.grad + second

    def estimate(self, tokens: float, step: int) -> Estimate:
        """U ⊙ Hu."""
        del tokens
        return lambda number, product: product.to(torch.float32) * self.direction(number, product, step).float()

    def direction(self, number: int, like: Tensor, step: int) -> Tensor:
        """The part of u that belongs to the parameter of this number, in the shape and precision of `like`."""
        state = ((self.seed * 1_000_003 + step) * 1_000_003 + number) % 2**63
        generator = torch.Generator().manual_seed(state)
        if self.distribution == "gaussian":
            drawn = torch.randn(like.shape, generator=generator)
        else:
            drawn = torch.randint(0, 2, like.shape, generator=generator).float().mul_(2).sub_(1)
        return drawn.to(like.device, like.dtype)
