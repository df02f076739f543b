"""The progress of a run: optimizer steps, rate, time left, losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.text import Text

from soul_lightning.cli.terminal import error_console

REFRESHES_PER_SECOND = 5


class _Timing(TextColumn):
    """Steps (or whatever is counted) a second, and the time left."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """`12.3 steps/s, 0:01:05 left`."""
        return Text(timing(task.speed, task.time_remaining, task.fields.get("unit", "steps")), style="cyan")


class StepProgressBar(ProgressBar):
    """One bar over all optimizer steps of a run on a terminal; elsewhere one line an epoch. Both go to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._is_enabled = True
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._started_at: float | None = None
        self._first_step = 0

    def enable(self) -> None:
        """Show it."""
        self._is_enabled = True

    def disable(self) -> None:
        """Show nothing, as Lightning asks on every rank but the first."""
        self._is_enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """What a module prints goes above the bar."""
        console = self._progress.console if self._progress else error_console()
        console.print(*args)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On a terminal, start the bar."""
        super().on_train_start(trainer, pl_module)
        self._started_at = None
        console = error_console()
        if self._is_enabled and console.is_terminal:
            self._progress = make_progress(console)
            self._task = self._progress.add_task(
                self._epoch(trainer), total=self._total(trainer), completed=trainer.global_step, losses=""
            )
            self._progress.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the epoch; the clock starts with the first, after what is measured before training."""
        if self._started_at is None:
            self._started_at, self._first_step = time.monotonic(), trainer.global_step
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=self._epoch(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """One step on."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=trainer.global_step, losses=losses(pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Off a terminal: a line."""
        if not self._is_enabled or self._progress is not None or self._started_at is None:
            return
        done = trainer.global_step - self._first_step
        rate = done / max(1e-9, time.monotonic() - self._started_at)
        total = self._total(trainer)
        left = (total - trainer.global_step) / rate if total is not None and rate > 0 else None
        parts = (self._epoch(trainer), f"{trainer.global_step} steps", timing(rate, left), losses(pl_module))
        error_console().print(", ".join(part for part in parts if part), highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar on the screen."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back before the error is shown."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress, self._task = None, None

    @staticmethod
    def _epoch(trainer: Trainer) -> str:
        epochs = trainer.max_epochs
        return f"epoch {trainer.current_epoch + 1}" + (f"/{epochs}" if epochs and epochs > 0 else "")

    @staticmethod
    def _total(trainer: Trainer) -> int | None:
        steps = getattr(trainer.lightning_module, "total_steps", trainer.estimated_stepping_batches)
        return int(steps) if steps != float("inf") else None


def make_progress(console: Console) -> Progress:
    """The bar and its columns: at most 80 columns wide where the terminal is no wider."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None if console.width >= 100 else 10),
        TextColumn("{task.completed}/{task.total}"),
        _Timing(),
        TextColumn("{task.fields[losses]}", style="dim"),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        expand=console.width >= 100,
    )


@contextmanager
def counted(description: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar for work that is counted; off a terminal, one line at its start.

    Args:
        description: What is done.
        total: How many there are.
        unit: What is counted, in the plural.

    Yields:
        To be told how many more are done.
    """
    console = error_console()
    if not console.is_terminal:
        console.print(f"{description}: {total} {unit}", markup=False, highlight=False, soft_wrap=True)
        yield lambda done: None
        return
    with make_progress(console) as progress:
        task = progress.add_task(description, total=total, losses="", unit=unit)
        yield lambda done: progress.advance(task, done)


def timing(rate: float | None, seconds_left: float | None, unit: str = "steps") -> str:
    """`12.3 steps/s, 0:01:05 left`; what is not known is left out."""
    parts = [f"{rate:.3g} {unit}/s"] if rate else []
    if seconds_left is not None:
        minutes, seconds = divmod(round(seconds_left), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
    return ", ".join(parts)


def losses(module: LightningModule) -> str:
    """The streams' losses as `forget 0.123 retain 1.23`.

    Not from `trainer.callback_metrics`, which waits for every process, and the bar is shown by the first alone.
    """
    return " ".join(f"{stream} {loss:.3g}" for stream, loss in getattr(module, "losses", {}).items())
