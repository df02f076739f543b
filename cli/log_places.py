"""Where a run's curves are, and the command that shows them."""

from __future__ import annotations

import shlex
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger


def log_places(trainer: Trainer) -> list[str]:
    """A line a logger: the command that opens TensorBoard, of others their name and folder; none without a logger."""
    places = []
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            places.append(shlex.join(["tensorboard", "--logdir", str(Path(logger.log_dir))]))
        else:
            where = getattr(logger, "log_dir", None) or logger.save_dir
            places.append(f"{type(logger).__name__}{f' in {where}' if where else ''}")
    return places
