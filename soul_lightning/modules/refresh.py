"""Refreshing the curvature inside of an optimizer step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from soul_lightning.networks.predictions import Predictions
from soul_lightning.optim.curvature import CurvatureEstimator
from soul_lightning.optim.sophia import CurvatureStatistics
from soul_lightning.protocols import Batch

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


class SecondOrderOptimizer(Protocol):
    """An optimizer that keeps a curvature."""

    win_rate: float
    """Share of coordinates that the last step did not clip."""

    def update_curvature(self, scale: float) -> CurvatureStatistics:
        """Fold scale · grad² into the curvature, and free the gradients."""
        ...


class CurvatureRefresh:
    """Runs the estimator's surrogate through the network and hands its gradient to the optimizer.

    The surrogate's backward pass comes before the loss's own (after the step autograd would refuse the old graph), and
    the graph of the last micro-batch is kept for the loss, so that with one micro-batch a refresh costs no forward.

    Args:
        module: Whose network and strategy are used.
        estimator: What is estimated, how often, and from which stream.
    """

    def __init__(self, module: StreamModule, estimator: CurvatureEstimator) -> None:
        # Held in a tuple: nn.Module's attribute hook would register the module as its own child.
        self._module = (module,)
        self._estimator = estimator
        self._seconds = 0.0
        self._started = time.perf_counter()
        self._metrics: dict[str, float] = {}

    def __call__(self, optimizer: Optimizer, parts: Mapping[str, list[Batch]], step: int) -> dict[str, Predictions]:
        """Refresh, when `step` is due.

        Args:
            optimizer: A second-order optimizer.
            parts: Micro-batches of each stream.
            step: The optimizer step about to be taken.

        Returns:
            Predictions of the last micro-batch of each source stream, whose graph is still there; empty when not due.
        """
        if not self._estimator.is_due(step):
            return {}
        started = time.perf_counter()
        (module,) = self._module
        batches = [(name, batch) for name in self._estimator.streams for batch in module.stream_parts(parts, name)]
        count = torch.tensor([sum(batch.labelled_tokens for _, batch in batches)], device=module.device)
        tokens = float(module.sum_over_ranks(count.double()))
        if tokens == 0:
            rank_zero_warn(f"optimizer step {step}: nothing is labelled, the curvature is not refreshed")
            return {}
        kept: dict[str, Predictions] = {}
        for number, (name, batch) in enumerate(batches, start=1):
            predictions = module(batch)
            is_kept = batch is parts[name][-1]
            if is_kept:
                kept[name] = predictions
            # Two streams number their rows alike, and must not draw alike.
            place = self._estimator.streams.index(name) << 40
            surrogate = self._estimator.surrogate(predictions, batch.index + place, step) / tokens
            with module.backward_sync(is_last=number == len(batches)):
                module.manual_backward(surrogate * module.trainer.world_size, retain_graph=is_kept)
        if self._gradients_are_finite(module, step):
            statistics = cast("SecondOrderOptimizer", optimizer).update_curvature(tokens)
            self._metrics = {"curvature/norm": statistics.norm, "curvature/sum_ratio": statistics.sum_ratio}
        now = time.perf_counter()
        self._seconds += now - started
        self._metrics["curvature/refresh_seconds"] = now - started
        self._metrics["curvature/refresh_time_share"] = self._seconds / max(1e-9, now - self._started)
        return kept

    def metrics_after(self, optimizer: Optimizer) -> dict[str, float]:
        """What the last refresh and the last step looked like, under logger names."""
        win_rate = cast("SecondOrderOptimizer", optimizer).win_rate
        return self._metrics | {"curvature/win_rate": win_rate, "curvature/clip_rate": 1 - win_rate}

    @staticmethod
    def _gradients_are_finite(module: StreamModule, step: int) -> bool:
        gradients = [p.grad for p in module.network.parameters() if p.grad is not None]
        if bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
            return True
        rank_zero_warn(f"optimizer step {step}: the curvature estimate is not finite and is left out")
        return False
