"""What happens during a fit or an evaluation, as events for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from soul_lightning.callbacks.base import ProbeCallback
from soul_lightning.cli.progress import total_steps
from soul_lightning.cli.terminal import emit


class RunEvents(Callback):
    """Tells each optimizer step that is logged, each epoch, and what callbacks have measured; stands behind them.

    Losses are those of the streams at the last step: metrics of Lightning would wait for every process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, Mapping[str, float | None]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What a checkpoint has brought back was told before."""
        self._told = {callback.name: callback.metrics for callback in _measuring(trainer)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was measured before training."""
        self._tell_measured(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step, where it is logged."""
        every: int = getattr(trainer, "log_every_n_steps", 1)  # set by a connector, unknown to type checkers
        if every and trainer.global_step % every == 0:
            emit("step", **_place(trainer), losses=_losses(pl_module))
        self._tell_measured(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was measured at its end, then the epoch."""
        self._tell_measured(trainer)
        emit("epoch", **_place(trainer), losses=_losses(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was measured of the final model."""
        self._tell_measured(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was measured by `validate`."""
        self._tell_measured(trainer)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was measured by `test`."""
        self._tell_measured(trainer)

    def _tell_measured(self, trainer: Trainer) -> None:
        for callback in _measuring(trainer):
            if callback.metrics and callback.metrics is not self._told.get(callback.name):
                self._told[callback.name] = callback.metrics  # a new one at each measurement
                metrics = dict(callback.metrics)
                emit(
                    "evaluation",
                    run=trainer.default_root_dir,
                    name=callback.name,
                    step=trainer.global_step,
                    metrics=metrics,
                )


def _measuring(trainer: Trainer) -> list[ProbeCallback]:
    return [callback for callback in getattr(trainer, "callbacks", ()) if isinstance(callback, ProbeCallback)]


def _place(trainer: Trainer) -> dict[str, Any]:
    return {
        "run": trainer.default_root_dir,
        "step": trainer.global_step,
        "steps": total_steps(trainer),
        "epoch": trainer.current_epoch + 1,
        "epochs": trainer.max_epochs,
    }


def _losses(module: LightningModule) -> dict[str, float]:
    return dict(getattr(module, "losses", {}))
