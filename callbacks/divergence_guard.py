"""A stopping rule for forgetting that has no end: a metric leaves its bounds, and the last good weights come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.sharding import here, reshard


@dataclass(frozen=True)
class Bound:
    """Where a metric may be; at least one of the three.

    Attributes:
        above: The run stops when it is above this.
        below: The run stops when it is below this.
        times_start: The run stops when it is above so many times its first value (that before training, where there is
            one), for metrics above 0, such as a perplexity.
    """

    above: float | None = None
    below: float | None = None
    times_start: float | None = None

    def broken_by(self, value: float, start: float) -> str | None:
        """Why a value is out of bounds, in words; none where it is not.

        Args:
            value: The metric.
            start: Its first value.
        """
        if not math.isfinite(value):
            return "is not finite"
        if self.above is not None and value > self.above:
            return f"is above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"is below {self.below:g}"
        if self.times_start is not None and value > self.times_start * start:
            return f"is above {self.times_start:g} times its start, {start:.4g}"
        return None


class DivergenceGuard(Callback):
    """Stops a run of any Lightning project when a metric leaves its bounds, and puts the last good weights back.

    Gradient ascent has no minimum: its loss, the negative of the forget rows' NLL in nats a token, falls for ever, and
    soon the model is of no use. A model that guesses among V tokens has the NLL ln V, the perplexity V: beyond that it
    knows worse than nothing, so that `train/forget_loss: {below: −ln V}` (V 49152: −10.8) is a first bound to try, and
    for what must stay `utility/retain_perplexity: {times_start: 1.5}`.

    At each check all metrics are read from `trainer.callback_metrics`, and one that is not finite is out of bounds. At
    epoch ends (list this callback after those that measure) they tell of the weights as they are, after a step (set
    `every_n_steps`) of those before it, as training losses do. Good weights are those that the last check within bounds
    was about, or the first check if none was; only what trains is kept, on the CPU: two copies of it. Metrics of both
    kinds need two guards.

    The processes of a run decide together: one that is out of bounds stops all.

    Args:
        bounds: What each metric may be, by its name.
        every_n_steps: Check after every so many optimizer steps; at epoch ends if none is given.
        name: Key of this callback's state; two guards need different names.

    Attributes:
        diverged_at_step: The optimizer step after which a metric was out of bounds; none if none was.
        kept_step: The optimizer step whose weights the model has then.
        reason: What was out of bounds.

    Raises:
        MisconfigurationError: There is no bound, or a setting is out of range.
    """

    def __init__(
        self,
        bounds: dict[str, Bound],
        every_n_steps: int | None = None,
        name: str = "divergence_guard",
    ) -> None:
        super().__init__()
        if not bounds or any(bound == Bound() for bound in bounds.values()):
            raise MisconfigurationError(
                "DivergenceGuard: bounds must give above, below or times_start for at least one metric, as in "
                "{train/forget_loss: {below: -10.8}}"
            )
        for metric, bound in bounds.items():
            if bound.times_start is not None and bound.times_start <= 1:
                raise MisconfigurationError(
                    f"DivergenceGuard: times_start of {metric} must be above 1, got {bound.times_start:g}"
                )
        if every_n_steps is not None and every_n_steps < 1:
            raise MisconfigurationError(f"DivergenceGuard: every_n_steps must be >= 1 or none, got {every_n_steps}")
        self.bounds = bounds
        self.every_n_steps = every_n_steps
        self.name = name
        self.diverged_at_step: int | None = None
        self.kept_step: int | None = None
        self.reason = ""
        self._starts: dict[str, float] = {}
        self._good = _Weights()
        self._candidate = _Weights()
        self._stored_stop: tuple[int | None, int | None, str] | None = None

    @property
    def state_key(self) -> str:
        """Keeps the states of two guards apart in a checkpoint."""
        return f"{type(self).__qualname__}[{self.name}]"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier run and its weights, or take back that an interrupted one was being stopped."""
        self.diverged_at_step, self.kept_step, self.reason = self._stored_stop or (None, None, "")
        self._stored_stop = None
        self._good.step = self._candidate.step = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where each metric starts, for those that are measured before training."""
        for metric in self.bounds:
            if metric in trainer.callback_metrics:
                self._starts.setdefault(metric, float(trainer.callback_metrics[metric]))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Keep the weights that a check after this step will be about."""
        self.diverged_at_step, self.kept_step, self.reason = None, None, ""  # whatever stopped it, it goes on
        step = trainer.global_step
        if self.every_n_steps is not None and (step + 1) % self.every_n_steps == 0 and self._candidate.step != step:
            self._candidate.take(pl_module, step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Check, where this batch has completed a step that is due."""
        if self._candidate.step is not None and trainer.global_step == self._candidate.step + 1:
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check, unless steps are.

        Raises:
            MisconfigurationError: Nothing logs one of the metrics.
        """
        missing = [metric for metric in self.bounds if metric not in trainer.callback_metrics]
        if missing:
            raise MisconfigurationError(
                f"DivergenceGuard: nothing logs {missing[0]!r}; the metrics are "
                f"{', '.join(sorted(trainer.callback_metrics)) or 'none'}, and callbacks that measure stand before "
                f"the guard"
            )
        if self.every_n_steps is None:
            self._candidate.take(pl_module, trainer.global_step)
            self._check(trainer, pl_module)

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the candidate for good, or stop."""
        reason = self._broken({name: float(value) for name, value in trainer.callback_metrics.items()})
        if not trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            self._good, self._candidate = self._candidate, self._good
            self._candidate.step = None
            return
        self.reason = reason or "a metric of another process is out of bounds"
        kept = self._good if self._good.step is not None else self._candidate
        kept.put_back(pl_module)
        self.diverged_at_step, self.kept_step = trainer.global_step, kept.step
        trainer.should_stop = True
        rank_zero_warn(
            f"the run stops at optimizer step {self.diverged_at_step}: {self.reason}; the model has the weights of "
            f"step {self.kept_step}"
        )

    def _broken(self, metrics: Mapping[str, float]) -> str | None:
        """Which bound is broken and how, in words."""
        for metric, bound in self.bounds.items():
            if metric not in metrics:
                continue
            value = metrics[metric]
            start = self._starts.setdefault(metric, value)
            if bound.times_start is not None and start <= 0:
                raise MisconfigurationError(
                    f"DivergenceGuard: times_start needs a metric above 0, and {metric} began at {start:g}; "
                    f"set above or below"
                )
            broken = bound.broken_by(value, start)
            if broken:
                return f"{metric} = {value:.4g} {broken}"
        return None

    def summary(self) -> Mapping[str, float | None]:
        """At which step the run was stopped, for its summary."""
        return {f"{self.name}/diverged_at_step": self.diverged_at_step, f"{self.name}/kept_step": self.kept_step}

    def state_dict(self) -> dict[str, Any]:
        """The first values, and what has stopped the run, as plain values."""
        return {"starts": dict(self._starts), "stop": (self.diverged_at_step, self.kept_step, self.reason)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._starts = dict(state_dict["starts"])
        self._stored_stop = state_dict.get("stop")


class _Weights:
    """A copy on the CPU of what trains, or of the part of it that this process holds."""

    def __init__(self) -> None:
        self.step: int | None = None
        self._copies: list[Tensor] = []

    def take(self, module: LightningModule, step: int) -> None:
        self.step = step
        own = _trained(module)
        if len(own) != len(self._copies):
            self._copies = [torch.empty_like(tensor, device="cpu") for tensor in own]
        for copy, tensor in zip(self._copies, own, strict=True):
            copy.copy_(tensor)

    def put_back(self, module: LightningModule) -> None:
        for copy, tensor in zip(self._copies, _trained(module), strict=True):
            tensor.copy_(copy)


def _trained(module: LightningModule) -> list[Tensor]:
    reshard(module)  # a measurement leaves some of them whole, and what is put there does not last
    return [here(parameter.detach()) for parameter in module.parameters() if parameter.requires_grad]
