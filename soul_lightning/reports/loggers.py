"""The one place that knows loggers: which of them takes numbers, figures, distributions, tables and hyperparameters.

TensorBoard takes all of it. Weights & Biases takes all but a layout of charts, which it makes itself. Every other
logger, such as `CSVLogger`, takes numbers and hyperparameters. All is logged by the first process, at the present
optimizer step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as session_summaries

from soul_lightning.reports.layout import Layout

FINAL = "final"
"""Group of the numbers that a run ends with; under TensorBoard they are a run of their own beside it."""
Value = float | str
_names: WeakKeyDictionary[Trainer, dict[str, None]] = WeakKeyDictionary()


def log_numbers(trainer: Trainer, numbers: Mapping[str, float | None]) -> None:
    """Log numbers in every logger; what has no meaning (none) is left out."""
    values = {name: value for name, value in numbers.items() if value is not None}
    if values:
        _names.setdefault(trainer, {}).update(dict.fromkeys(values))
    for logger in trainer.loggers if values else []:
        logger.log_metrics(values, step=trainer.global_step)


def log_beside(trainer: Trainer, group: str, levels: Mapping[str, Mapping[str, float | None]]) -> None:
    """Log what models come to that stand beside the one that trains, and do not change.

    TensorBoard draws the runs of one number in one chart, each in its colour: there every model is a run of its own in
    the run's folder, with the numbers' usual names. Elsewhere their names are `GROUP/MODEL/NAME`.

    Args:
        trainer: Has the loggers.
        group: Of the numbers.
        levels: By model, names without the group.
    """
    for logger in trainer.loggers if trainer.is_global_zero else []:
        for model, numbers in levels.items():
            known = {name: value for name, value in numbers.items() if value is not None}
            if isinstance(logger, TensorBoardLogger):
                with _run_within(logger, model) as writer:
                    for name, value in known.items():
                        writer.add_scalar(f"{group}/{name}", value, trainer.global_step)
            elif known:
                named = {f"{group}/{model}/{name}": value for name, value in known.items()}
                logger.log_metrics(named, step=trainer.global_step)


def logged_names(trainer: Trainer) -> list[str]:
    """The names of all numbers that a Trainer has logged, by `log_numbers` or through its LightningModule."""
    return list(dict.fromkeys([*trainer.logged_metrics, *_names.get(trainer, {})]))


def log_figure(trainer: Trainer, name: str, figure: Figure) -> None:
    """Show a figure; it is drawn once, for all loggers."""
    loggers = _with_pictures(trainer)
    pixels = _pixels(figure) if loggers else None
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, pixels, trainer.global_step, dataformats="HWC")
        elif isinstance(logger, WandbLogger):
            logger.log_image(name, [pixels], trainer.global_step)


def log_histogram(trainer: Trainer, name: str, values: Sequence[float]) -> None:
    """Show how values are distributed; those that are not finite are left out."""
    finite = np.array([value for value in values if math.isfinite(value)])
    for logger in _with_pictures(trainer) if len(finite) else []:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_histogram(name, finite, trainer.global_step)
        elif isinstance(logger, WandbLogger):
            import wandb  # no dependency of this package: whoever has such a logger has it

            histogram: Any = wandb.Histogram(finite.tolist())  # Lightning declares numbers alone, and hands on all
            logger.log_metrics({name: histogram}, trainer.global_step)


def log_table(trainer: Trainer, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a table of texts: as Markdown in TensorBoard, as a table in Weights & Biases."""
    for logger in _with_pictures(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, markdown_table(columns, rows), trainer.global_step)
        elif isinstance(logger, WandbLogger):
            logger.log_table(name, list(columns), [list(row) for row in rows], step=trainer.global_step)


def log_layout(trainer: Trainer, layout: Layout) -> None:
    """Arrange charts in TensorBoard's Custom Scalars; the last layout of a run counts."""
    for logger in _with_pictures(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_custom_scalars(layout)


def log_hyperparameters(trainer: Trainer, hyperparameters: Mapping[str, Value], final: Mapping[str, float]) -> None:
    """Log what a run was made with, and the numbers that it ends with, as `final/NAME`.

    TensorBoard's HParams tab shows every number of a run and of the runs in its folder, or those that the first run
    names. So that runs with other settings and other numbers stand in one table, both go to a run of their own,
    `final`, in the run's folder.

    Args:
        trainer: Has the loggers.
        hyperparameters: Plain values by name.
        final: The last numbers, by a name without a group.
    """
    numbers = {f"{FINAL}/{name}": value for name, value in final.items()}
    for logger in trainer.loggers if trainer.is_global_zero else []:
        if isinstance(logger, TensorBoardLogger):
            with _run_within(logger, FINAL) as writer:
                _, started, ended = session_summaries(dict(hyperparameters), {})
                writer.file_writer.add_summary(started)
                writer.file_writer.add_summary(ended)
                for name, value in numbers.items():
                    writer.add_scalar(name, value, trainer.global_step)
        else:
            logger.log_hyperparams(dict(hyperparameters))
            logger.log_metrics(numbers, step=trainer.global_step)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; white space in a cell becomes one space, and a bar is escaped."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *cells))


def _with_pictures(trainer: Trainer) -> list[Logger]:
    """The loggers of the first process that take more than numbers."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger for logger in loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]


def _run_within(logger: TensorBoardLogger, name: str) -> SummaryWriter:
    """A run in the folder of the logger's own."""
    return SummaryWriter(os.path.join(logger.log_dir, name))


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """[height, width, 3] the figure, 100 pixels an inch."""
    file = BytesIO()
    figure.savefig(file, format="rgba", dpi=100)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    return np.frombuffer(file.getvalue(), np.uint8).reshape(height, width, 4)[..., :3]
