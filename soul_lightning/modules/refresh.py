"""Refreshing the curvature inside of an optimizer step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from soul_lightning.modules.distributed import average_gradients, backward_sync
from soul_lightning.networks.joint import Request
from soul_lightning.networks.predictions import Predictions
from soul_lightning.optim.curvature import CurvatureEstimator
from soul_lightning.optim.intervals import RefreshClock
from soul_lightning.optim.sophia import CurvatureStatistics
from soul_lightning.protocols import Batch
from soul_lightning.sharding import whole

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


class SecondOrderOptimizer(Protocol):
    """An optimizer that keeps a curvature."""

    @property
    def win_rate(self) -> float:
        """Share of coordinates that the last step did not clip."""
        ...

    def fold_curvature(self, estimate: Callable[[int, Tensor], Tensor]) -> CurvatureStatistics:
        """Fold a fresh estimate of each parameter into the curvature, and free the gradients."""
        ...


class CurvatureRefresh:
    """Runs the estimator's surrogate through the network and hands what it leaves to the optimizer.

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
        self.clock = RefreshClock(estimator.interval_steps)
        self._seconds = 0.0
        self._started = time.perf_counter()
        self._metrics: dict[str, float] = {}

    def __call__(
        self, optimizer: Optimizer, parts: Mapping[str, list[Batch]], reusable: frozenset[str], step: int
    ) -> dict[str, Predictions]:
        """Refresh, when `step` is due.

        Args:
            optimizer: A second-order optimizer.
            parts: Micro-batches of each stream.
            reusable: Streams whose loss reads nothing but their own predictions, and could use the same graph.
            step: The optimizer step about to be taken.

        Returns:
            Predictions of the last micro-batch of each such source stream, whose graph is still there.
        """
        if not self.clock.is_due(step):
            return {}
        started = time.perf_counter()
        (module,) = self._module
        batches = [
            (name, batch, self._sampled(batch, step))
            for name in self._estimator.streams
            for batch in module.stream_parts(parts, name)
        ]
        count = torch.tensor([sum(batch.labelled_tokens for _, _, batch in batches)], device=module.device)
        tokens = float(module.sum_over_ranks(count.double()))
        if tokens == 0:
            rank_zero_warn(f"optimizer step {step}: no row was drawn that is labelled, the curvature is not refreshed")
            return {}
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        kept: dict[str, Predictions] = {}
        for number, (name, unsampled, batch) in enumerate(batches, start=1):
            with self._estimator.forward_context():
                (predictions,) = module.predict([Request(batch.seen_as(("answer",)))])
            is_kept = self._estimator.reuses_graph and name in reusable and batch is unsampled is parts[name][-1]
            if is_kept:
                kept[name] = predictions
            # Two streams number their rows alike, and must not draw alike.
            place = self._estimator.streams.index(name) << 40
            mean = self._estimator.surrogate(predictions, batch.index + place, step) / tokens
            # Under gradient checkpointing the backward pass runs the forward once more.
            with self._estimator.forward_context(), backward_sync(module, is_last=number == len(batches)):
                self._estimator.accumulate(
                    mean * module.trainer.world_size, parameters, step, keep_graph=is_kept, backward=module.run_backward
                )
        if not self._estimator.reuses_graph:
            average_gradients(module)  # autograd.grad passes by the hooks that average over ranks
        drift = float("inf")
        if self._gradients_are_finite(module, step):
            folded = cast("SecondOrderOptimizer", optimizer).fold_curvature(self._estimator.estimate(tokens, step))
            self._metrics = {"curvature/norm": folded.norm, "curvature/sum_ratio": folded.sum_ratio}
            drift = folded.drift
        self.clock.refreshed(step, drift)
        now = time.perf_counter()
        self._seconds += now - started
        self._metrics["curvature/interval_steps"] = float(self.clock.steps)
        self._metrics["curvature/refresh_seconds"] = now - started
        self._metrics["curvature/refresh_time_share"] = self._seconds / max(1e-9, now - self._started)
        return kept

    def start(self) -> None:
        """Forget the refreshes of an earlier `fit` with the same module."""
        self.clock = RefreshClock(self._estimator.interval_steps)

    def metrics_after(self, optimizer: Optimizer) -> dict[str, float]:
        """What the last refresh and the last step looked like, under logger names."""
        win_rate = cast("SecondOrderOptimizer", optimizer).win_rate
        return self._metrics | {"curvature/win_rate": win_rate, "curvature/clip_rate": 1 - win_rate}

    def state_dict(self) -> dict[str, Any]:
        """When the next refresh is due, and what is logged of the last one until then."""
        return {**self.clock.state_dict(), "metrics": dict(self._metrics)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep to it."""
        self.clock.load_state_dict(state)
        self._metrics = dict(state.get("metrics", {}))

    def _sampled(self, batch: Batch, step: int) -> Batch:
        """The rows that the refresh uses; a rank that would be left with none keeps one without labels."""
        if self._estimator.fraction == 1:
            return batch
        chosen = self._estimator.is_sampled(batch.index, step).nonzero()[:, 0]
        return batch.rows(chosen) if len(chosen) else batch.rows(chosen.new_zeros(1)).without_labels()

    @staticmethod
    def _gradients_are_finite(module: StreamModule, step: int) -> bool:
        gradients = [p.grad for p in module.network.parameters() if p.grad is not None]
        if bool(torch.isfinite(whole(torch.nn.utils.get_total_norm(gradients)))):
            return True
        rank_zero_warn(f"optimizer step {step}: the curvature estimate is not finite and is left out")
        return False
