"""The checkpoint of a run: what it goes on from when something ended it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from soul_lightning.cli.stop_signals import StopSignals
from soul_lightning.exceptions import MisconfigurationError, RunInterrupted
from soul_lightning.run_folder import CHECKPOINT_NAME

RUN_KEY = "soul_lightning_run"


class RunCheckpoint(Checkpoint):
    """Keeps the last state of a run in `checkpoints/last.ckpt`, and ends a run that is sent SIGTERM or SIGINT there.

    It saves after whatever other callbacks do at a step or an epoch's end. The last step of an epoch is saved with the
    epoch's end: Lightning resumes a checkpoint of that step behind the epoch's end, which would then never have been.

    Args:
        every_n_steps: Save every so many optimizer steps, and at the end of every epoch; none for the ends alone.
        keep: Keep the checkpoint, with the optimizer's state, when the run is complete and its model exported. The
            state holds traces of what was to be forgotten; without it a run cannot be trained longer.

    Attributes:
        recipe: What the run trains, and on what, as plain values; stored, so that another recipe is refused.

    Raises:
        MisconfigurationError: `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int | None = 200, keep: bool = False) -> None:
        super().__init__()
        if every_n_steps is not None and every_n_steps < 1:
            raise MisconfigurationError(f"checkpoint.every_n_steps must be >= 1 or null, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.recipe: dict[str, Any] = {}
        self._signals = StopSignals()
        self._stored: dict[str, Any] = {}
        self._data: dict[str, str] | None = None
        self._saved_at_step = 0
        self._untold: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take back what an interrupted run had logged, and check that it goes on with the same rows.

        Raises:
            MisconfigurationError: The rows are others.
        """
        self._signals.watch(trainer)
        self._data = _stream_hashes(trainer)
        stored, self._stored = self._stored, {}
        others = [name for name, known in stored.get("data", {}).items() if self._data.get(name, known) != known]
        if others:
            raise MisconfigurationError(
                f"the rows of {', '.join(others)} are not those that the checkpoint was trained on; bring them back, "
                f"or begin a new run"
            )
        # What was logged once is not logged again, and of the saved step the loggers had not been told.
        trainer.callback_metrics.update(stored.get("logged", {}))
        if stored.get("untold"):
            for logger in trainer.loggers:
                logger.log_metrics(stored["untold"], step=trainer.global_step)
        trainer.should_stop |= stored.get("should_stop", False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when a step is due, or when a signal came."""
        if trainer.fit_loop.epoch_loop.done:
            return  # the epoch's end follows
        step, stop = trainer.global_step, self._signals.agreed(trainer)
        due = self.every_n_steps is not None and step > 0 and step % self.every_n_steps == 0
        if stop or (due and step != self._saved_at_step):
            told = trainer._logger_connector.metrics["log"]  # Lightning logs after the last hook of a step
            self._untold = {name: float(value) for name, value in told.items() if name != "step"}
            self._save(trainer)
            self._untold = {}
        _stop(stop, trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save every epoch."""
        self._save(trainer)
        _stop(self._signals.agreed(trainer), trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on nothing is lost that would not be made again."""
        stop = self._signals.agreed(trainer)
        self._signals.let_go()
        _stop(stop, trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the signals' handlers back."""
        self._signals.let_go()

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # what it still holds is logged before this step, and would not be logged again
        folder = Path(trainer.strategy.broadcast(trainer.default_root_dir))
        trainer.save_checkpoint(folder / CHECKPOINT_NAME, weights_only=False)  # False: with the optimizer's state
        self._saved_at_step = trainer.global_step

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say what was trained on what, and keep what was logged."""
        checkpoint[RUN_KEY] = {
            "recipe": self.recipe,
            "data": self._data if self._data is not None else _stream_hashes(trainer),
            "untold": self._untold,
            "logged": {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()},
            "should_stop": trainer.should_stop,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take it back; it is put in place when training goes on."""
        self._stored = checkpoint.get(RUN_KEY, {})


def _stop(number: int, trainer: Trainer) -> None:
    if number:
        raise RunInterrupted(
            number,
            f"stopped by {signal.Signals(number).name} after optimizer step {trainer.global_step}, which is saved",
        )


def _stream_hashes(trainer: Trainer) -> dict[str, str]:
    """A hash of each stream's rows, where the DataModule knows it."""
    data = getattr(trainer, "datamodule", None)
    hashes: dict[str, str] = data.data_hashes() if data is not None and hasattr(data, "data_hashes") else {}
    return {name: value for name, value in hashes.items() if name.startswith("stream/")}
