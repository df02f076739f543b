"""The curvature of second-order optimizers, in anybody's project."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from soul_lightning.callbacks.base import Metrics
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.base import StreamModule
from soul_lightning.optim.sophia import Sophia
from soul_lightning.reports.loggers import log_numbers


class CurvatureMonitor(Callback):
    """Logs what every `Sophia` of a Trainer holds, whoever refreshes its curvature, and never changes training.

    It reads the optimizers' state after each batch that stepped one of them, under manual and automatic optimization,
    and logs at optimizer steps:

    - `curvature/win_rate`: share of coordinates that the last step did not clip; healthy between 0.1 and 0.5.
    - `curvature/clip_rate`: the others' share.
    - `curvature/norm`: ‖h‖₂ over all parameters, after the last refresh.
    - `curvature/sum_ratio`: Σh / Σĥ at the last refresh, ĥ the fresh estimate; 1 where both agree. Σĥ is not kept by
      the optimizer and follows from Σh before and after, which needs one refresh a batch at most.
    - `curvature/refresh_time_share`: share of the time of training batches that refreshes took. A refresh is the
      project's own code, and where it begins nobody knows. So this is what optimizer steps with a refresh took beyond
      the mean of those without, over the time of both. Time runs from `on_train_batch_start` to `on_train_batch_end`
      and, on an accelerator, waits for it there; data loading, validation, refreshes outside of a batch, and the first
      step, which warms up, are not counted. There is none before steps of both kinds were seen.

    Of several Sophias each has a group of its own, `curvature/optimizer_NUMBER/…` after its place in
    `trainer.optimizers`. Metrics reach `ModelCheckpoint` under their names, and every logger.

    The modules of this package that have a `curvature` log all of this themselves, under the same names (and time their
    own refreshes): there the monitor has nothing to add and is silent.

    Args:
        every_n_steps: Log every so many optimizer steps.

    Raises:
        MisconfigurationError: `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        super().__init__()
        if every_n_steps < 1:
            raise MisconfigurationError(f"CurvatureMonitor: every_n_steps must be >= 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.metrics: Metrics = {}
        self._steps = 0
        self._times = StepTimes()
        self._sum_ratios: dict[str, float | None] = {}
        self._watched: list[_WatchedOptimizer] = []
        self._batch_started: float | None = None
        self._forget_time_of_step()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for a Sophia, so that it is missed before anything is trained.

        Raises:
            MisconfigurationError: There is none.
        """
        if not any(isinstance(optimizer, Sophia) for optimizer in trainer.optimizers):
            found = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers) or "none"
            raise MisconfigurationError(
                f"CurvatureMonitor found no Sophia among the optimizers (there are: {found}); train with "
                f"soul_lightning.Sophia, or remove the callback"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read what an interrupted run left in the optimizers."""
        self._let_go()
        if isinstance(pl_module, StreamModule) and pl_module.curvature is not None:
            rank_zero_info(f"CurvatureMonitor is silent: {type(pl_module).__name__} logs its curvature itself")
            return
        found = [(place, one) for place, one in enumerate(trainer.optimizers) if isinstance(one, Sophia)]
        for place, optimizer in found:
            group = "curvature" if len(found) == 1 else f"curvature/optimizer_{place}"
            self._watched.append(_WatchedOptimizer(optimizer, group, self._sum_ratios.get(group)))
        self._is_warm = False
        self._forget_time_of_step()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """A refresh between two batches is read, and not timed."""
        if self._watched:
            self._look()
            self._batch_started = _time(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the optimizers, and log when a step is due."""
        if self._batch_started is None:
            return
        self._seconds += _time(trainer) - self._batch_started
        self._refreshed |= self._look()
        if not any([watched.has_stepped_since() for watched in self._watched]):
            return  # gradients are still accumulated
        if self._is_warm:
            self._times.add(self._seconds, self._refreshed)
        self._is_warm = True
        self._forget_time_of_step()
        self._steps += 1
        if self._steps % self.every_n_steps == 0:
            self._log(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the optimizers."""
        self._let_go()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the optimizers."""
        self._let_go()

    def _look(self) -> bool:
        """Read every optimizer; returns whether any was refreshed since the last look."""
        return any([watched.look() for watched in self._watched])

    def _forget_time_of_step(self) -> None:
        self._seconds = 0.0
        self._refreshed = False

    def _let_go(self) -> None:
        for watched in self._watched:
            watched.let_go()
        self._watched = []
        self._batch_started = None

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.metrics = {name: value for watched in self._watched for name, value in watched.metrics().items()}
        self.metrics["curvature/refresh_time_share"] = self._times.refresh_share
        log_numbers(trainer, self.metrics)
        for name, value in self.metrics.items():
            if value is not None:
                pl_module.log(
                    name, value, logger=False, on_step=True, on_epoch=False, batch_size=1,
                    sync_dist=trainer.world_size > 1,
                )  # fmt: skip

    def summary(self) -> Metrics:
        """The last metrics, for the run's summary."""
        return dict(self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """The last metrics and Σh / Σĥ, how many steps were seen and what they took, as plain values."""
        return {
            "metrics": dict(self.metrics),
            "steps": self._steps,
            "times": asdict(self._times),
            "sum_ratios": {watched.group: watched.sum_ratio for watched in self._watched},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.metrics = dict(state_dict["metrics"])
        self._steps = state_dict["steps"]
        self._times = StepTimes(**state_dict["times"])
        self._sum_ratios = dict(state_dict["sum_ratios"])


@dataclass
class StepTimes:
    """Wall time of optimizer steps, those with a refresh of the curvature apart.

    Attributes:
        plain_steps: Steps without a refresh.
        plain_seconds: What all of them took.
        refresh_steps: Steps with one.
        refresh_seconds: What all of them took.
    """

    plain_steps: int = 0
    plain_seconds: float = 0.0
    refresh_steps: int = 0
    refresh_seconds: float = 0.0

    def add(self, seconds: float, refreshed: bool) -> None:
        """Count one step."""
        if refreshed:
            self.refresh_steps += 1
            self.refresh_seconds += seconds
        else:
            self.plain_steps += 1
            self.plain_seconds += seconds

    @property
    def refresh_share(self) -> float | None:
        """What steps with a refresh took beyond the mean of the others, over the time of all; none without both kinds.

        At least 0: where refreshes cost less than steps vary, chance may make it negative.
        """
        if not self.plain_steps or not self.refresh_steps:
            return None
        beyond = self.refresh_seconds - self.refresh_steps * self.plain_seconds / self.plain_steps
        return max(0.0, beyond / (self.plain_seconds + self.refresh_seconds))


@dataclass(frozen=True, slots=True)
class _Curvature:
    """A parameter's h: how often it was refreshed, Σh, and Σh²."""

    refreshes: int = 0
    sum: float = 0.0
    square: float = 0.0


class _WatchedOptimizer:
    """One Sophia, and what was last seen of the curvature of each of its parameters."""

    def __init__(self, optimizer: Sophia, group: str, sum_ratio: float | None) -> None:
        self.group = group
        self._optimizer = optimizer
        self._seen: dict[Tensor, _Curvature] = {}
        self._has_stepped = self._has_stepped_ever = False
        self._hook = optimizer.register_step_post_hook(self._note_step)
        self.look()
        self.sum_ratio = sum_ratio  # that of a refresh before an interruption, which nothing here can tell

    def let_go(self) -> None:
        """Remove the hook."""
        self._hook.remove()

    def has_stepped_since(self) -> bool:
        """Whether the optimizer has stepped since this was last asked."""
        stepped, self._has_stepped = self._has_stepped, False
        return stepped

    def look(self) -> bool:
        """Read the curvature where it was refreshed since the last look; returns whether it was."""
        refreshed, total, fresh, is_known = False, 0.0, 0.0, True
        for group, parameter, state in self._states():
            before = self._seen.get(parameter, _Curvature())
            if state["refreshes"] == before.refreshes:
                continue
            refreshed = True
            h = state["curvature"]
            now = _Curvature(state["refreshes"], float(h.sum(dtype=torch.float64)), float(h.norm()) ** 2)
            self._seen[parameter] = now
            is_known &= now.refreshes == before.refreshes + 1
            # Sophia.fold_curvature read backwards: h ← ĥ at first, h ← β2 h + (1 − β2) ĥ from then on.
            is_first = before.refreshes == 0 and group["curvature_init"] == "first"
            decay = 0.0 if is_first else group["betas"][1]
            total += now.sum
            fresh += (now.sum - decay * before.sum) / (1 - decay)
        if refreshed:
            self.sum_ratio = None if not is_known else total / fresh if fresh else 1.0
        return refreshed

    def metrics(self) -> Metrics:
        """The last step and the last refresh, under logger names; what has not been yet has no entry."""
        found: Metrics = {}
        if self._has_stepped_ever:  # an optimizer that has not stepped says 0
            found = {"win_rate": self._optimizer.win_rate, "clip_rate": 1 - self._optimizer.win_rate}
        if self._seen:
            found["norm"] = math.sqrt(sum(curvature.square for curvature in self._seen.values()))
            found["sum_ratio"] = self.sum_ratio
        return {f"{self.group}/{name}": value for name, value in found.items()}

    def _note_step(self, *_: Any) -> None:
        self._has_stepped = self._has_stepped_ever = True

    def _states(self) -> Iterator[tuple[dict[str, Any], Tensor, dict[str, Any]]]:
        """Group, parameter and state of each parameter that has a curvature."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                state = self._optimizer.state.get(parameter, {})  # [] would put an empty state there
                if state.get("refreshes", 0):
                    yield group, parameter, state


def _time(trainer: Trainer) -> float:
    """Seconds; what was asked of an accelerator is done by then."""
    device = trainer.strategy.root_device
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
