"""The progress of a fit: optimizer steps, rate, time left, losses."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import TaskID

from soul_lightning.cli.bars import are_drawn, bars, lines, pace, timing

SECONDS_BETWEEN_EPOCHS = 1.0
"""Off a terminal epochs that are shorter get no line each; the last one does."""


class StepProgressBar(ProgressBar):
    """One bar over all optimizer steps of a run on a terminal; elsewhere a line an epoch, and within long epochs."""

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._task: TaskID | None = None
        self._started_at: float | None = None
        self._epoch_said_at = float("-inf")
        self._first_step = 0

    def enable(self) -> None:
        """Show it."""
        self._is_enabled = True

    def disable(self) -> None:
        """Show nothing, as Lightning asks on every rank but the first."""
        self._is_enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """What a module prints goes above the bar."""
        bars().console.print(*args)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On a terminal, start the bar."""
        super().on_train_start(trainer, pl_module)
        self._started_at, self._epoch_said_at = None, float("-inf")
        if self._is_enabled and are_drawn():
            self._task = bars().add(epoch_of(trainer), total_steps(trainer), "steps", trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the epoch; the clock starts with the first, after what is measured before training."""
        if self._started_at is None:
            self._started_at, self._first_step = time.monotonic(), trainer.global_step
            if self._task is not None:
                bars().begin(self._task, self._first_step)
        if self._task is not None:
            bars().update(self._task, description=epoch_of(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """One step on."""
        if self._task is not None:
            bars().update(self._task, completed=trainer.global_step, losses=losses(pl_module))
        elif self._is_enabled and lines().due:
            self._say(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Off a terminal: a line."""
        if not self._is_enabled or self._task is not None:
            return
        is_last = trainer.global_step == total_steps(trainer)
        if is_last or time.monotonic() - self._epoch_said_at >= SECONDS_BETWEEN_EPOCHS:
            self._epoch_said_at = time.monotonic()
            self._say(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop(stays=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back before the error is shown."""
        bars().end_all()
        self._task = None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._stop(stays=False)

    def _say(self, trainer: Trainer, module: LightningModule) -> None:
        if self._started_at is None:
            return
        step = trainer.global_step
        rate, left = pace(step - self._first_step, self._started_at, step, total_steps(trainer))
        parts = (epoch_of(trainer), f"{step} steps", timing(rate, left), losses(module))
        lines().say(", ".join(part for part in parts if part))

    def _stop(self, stays: bool) -> None:
        if self._task is not None:
            bars().end(self._task, stays)
            self._task = None


def epoch_of(trainer: Trainer) -> str:
    """`epoch 3/8`."""
    epochs = trainer.max_epochs
    return f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs and epochs > 0 else "")


def total_steps(trainer: Trainer) -> int | None:
    """Optimizer steps of the whole run; none where it has no end."""
    steps = getattr(trainer.lightning_module, "total_steps", trainer.estimated_stepping_batches)
    return int(steps) if steps != float("inf") else None


def losses(module: LightningModule) -> str:
    """The streams' losses as `forget 0.123 retain 1.23`.

    Not from `trainer.callback_metrics`, which waits for every process, and the bar is shown by the first alone.
    """
    return " ".join(f"{stream} {loss:.3g}" for stream, loss in getattr(module, "losses", {}).items())
