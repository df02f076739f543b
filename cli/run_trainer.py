"""The Trainer of a run from the command line."""

from __future__ import annotations

from lightning.pytorch import Trainer


class RunTrainer(Trainer):
    """Puts what callbacks write into the run folder, whatever the logger.

    Lightning's `log_dir` is where the first logger writes, and what callbacks write goes there too. Of a logger that
    has no folders of its own, such as `WandbLogger`, that is where the command was called.
    """

    @property
    def log_dir(self) -> str:
        """The run folder; to be asked on every rank, for it is broadcast."""
        return self.strategy.broadcast(self.default_root_dir)
