"""What is under way: bars on a terminal, one below the other; elsewhere a whole line now and then. All to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from soul_lightning.cli.terminal import error_console

REFRESHES_PER_SECOND = 5
SECONDS_PER_LINE = 15
"""Off a terminal work that goes on says how far it is once in so many seconds."""
SECONDS_BEFORE_A_BAR = 0.5
"""Shorter work has no bar: it would be gone before it could be read."""
WIDE = 100
"""Columns from which there is room for everything."""
_BESIDE_WORDS = 44
"""Columns that a bar, a count and a rate take."""


class Bars:
    """The bars of all that is under way; they are drawn as long as there is one."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._open: set[TaskID] = set()

    @property
    def console(self) -> Console:
        """What stands above the bars is printed there."""
        return error_console()

    def add(self, what: str, total: int | None, unit: str, completed: int = 0, delay_seconds: float = 0.0) -> TaskID:
        """A bar below the others.

        Args:
            what: What is done.
            total: How many there are; none where nobody knows.
            unit: What is counted, in the plural.
            completed: How many are done.
            delay_seconds: The bar is not shown before.
        """
        if self._progress is None:
            self._progress = make_progress(self.console)
            self._progress.start()
        what = _shortened(what, self.console.width)
        clock: dict[str, Any] = {
            "begun": completed,
            "begun_at": time.monotonic(),
            "shown_at": time.monotonic() + delay_seconds,
        }
        task = self._progress.add_task(what, total=total, completed=completed, unit=unit, losses="", **clock)
        self._open.add(task)
        return task

    def begin(self, task: TaskID, completed: int) -> None:
        """Rate and time left are counted from here."""
        self.update(task, begun=completed, begun_at=time.monotonic())

    def advance(self, task: TaskID, done: int) -> None:
        """So many more are done."""
        if self._progress is not None:
            self._progress.advance(task, done)

    def update(self, task: TaskID, **fields: Any) -> None:
        """See `rich.progress.Progress.update`."""
        if self._progress is not None:
            self._progress.update(task, **fields)

    def end(self, task: TaskID, stays: bool = False) -> None:
        """End a bar, and give the terminal back with the last one.

        Args:
            task: The bar.
            stays: Leave it on the screen.
        """
        if self._progress is None or task not in self._open:
            return
        self._open.remove(task)
        if not stays:
            self._progress.remove_task(task)
        if not self._open:
            self._progress.live.transient = not self._progress.tasks
            self._progress.stop()
            self._progress = None

    def end_all(self) -> None:
        """Give the terminal back, whatever is under way."""
        for task in sorted(self._open, reverse=True):
            self.end(task)


class Lines:
    """Lines in place of bars, at a modest rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at = clock()

    @property
    def due(self) -> bool:
        """Whether nothing was said for long enough."""
        return self._clock() - self._said_at >= SECONDS_PER_LINE

    def say(self, text: str) -> None:
        """A line."""
        self._said_at = self._clock()
        error_console().print(text, markup=False, highlight=False, soft_wrap=True)


@cache
def bars() -> Bars:
    """Those of this process."""
    return Bars()


def are_drawn() -> bool:
    """Whether stderr is a terminal that can draw bars, now: it may be redirected later on."""
    console = error_console()
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def work_shown(what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Work that is counted: a `soul_lightning.progress.Listener`.

    Args:
        what: What is done.
        total: How many there are; none where nobody knows.
        unit: What is counted, in the plural.
    """
    if not are_drawn():
        yield _Counted(what, total, unit)
        return
    task = bars().add(what, total, unit, delay_seconds=SECONDS_BEFORE_A_BAR)
    try:
        yield lambda done: bars().advance(task, done)
    finally:
        bars().end(task)


@cache
def lines() -> Lines:
    """Those of this process."""
    return Lines()


class _Counted:
    """Counted work that says now and then how far it is."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._started, self._done = time.monotonic(), 0

    def __call__(self, done: int) -> None:
        self._done += done
        if not lines().due or self._done == self._total:
            return
        rate, left = pace(self._done, self._started, self._done, self._total)
        count = f"{self._done:,}" + (f" of {self._total:,}" if self._total is not None else "")
        lines().say(", ".join((f"{self._what}: {count} {self._unit}", timing(rate, left, self._unit))))


class _OneBarALine(Progress):
    """Each bar has columns of its own: what one says must not take room from another."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """A table a bar."""
        now = time.monotonic()
        for task in self.tasks:
            if task.fields["shown_at"] <= now:
                yield self.make_tasks_table([task])


class _Timing(TextColumn):
    """How many a second, and the time left."""

    def __init__(self, is_wide: bool) -> None:
        super().__init__("", table_column=Column(no_wrap=True))
        self._is_wide = is_wide

    def render(self, task: Task) -> Text:
        """`12.3 steps/s, 0:01:05 left`, without the unit where there is little room."""
        unit = task.fields["unit"] if self._is_wide else ""
        done = int(task.completed)
        rate, left = pace(done - task.fields["begun"], task.fields["begun_at"], done, task.total)
        return Text(timing(rate, left, unit), style="cyan")


class _Count(TextColumn):
    """How many are done, of how many."""

    def __init__(self) -> None:
        super().__init__("", table_column=Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """`120/300`, or `120` where nobody knows."""
        return Text(f"{task.completed:.0f}" + (f"/{task.total:.0f}" if task.total is not None else ""))


def make_progress(console: Console) -> Progress:
    """Bars and their columns, a line each: what is no bar keeps its width."""
    return _OneBarALine(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None),
        _Count(),
        _Timing(console.width >= WIDE),
        TextColumn("{task.fields[losses]}", style="dim", table_column=Column(no_wrap=True)),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        expand=True,
    )


def pace(done: int, begun_at: float, completed: int, total: float | None) -> tuple[float | None, float | None]:
    """How many a second, and the seconds left: measured pauses count, for others like them will come.

    Args:
        done: How many since the clock began.
        begun_at: When it began, by `time.monotonic`.
        completed: How many in all.
        total: How many there are; none where nobody knows.

    Returns:
        None for what is not known.
    """
    if done <= 0:
        return None, None
    rate = done / max(1e-9, time.monotonic() - begun_at)
    return rate, (total - completed) / rate if total is not None else None


def timing(rate: float | None, seconds_left: float | None, unit: str = "steps") -> str:
    """`12.3 steps/s, 0:01:05 left`; what is not known is left out, and so is an empty unit."""
    parts = [f"{rate:.3g}{f' {unit}' if unit else ''}/s"] if rate else []
    if seconds_left is not None:
        parts.append(f"{clock_time(seconds_left)} left")
    return ", ".join(parts)


def clock_time(seconds: float) -> str:
    """`0:01:05`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _shortened(what: str, width: int) -> str:
    """The end of what is done, which tells most, where there is no room for all of it."""
    room = max(10, width - _BESIDE_WORDS)
    return what if len(what) <= room else f"…{what[1 - room :]}"
