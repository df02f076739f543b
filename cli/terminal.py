"""Where the command line writes: results to stdout, everything else to stderr; and what it says in which mode."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from soul_lightning.cli.arguments import Mode
from soul_lightning.progress import listening
from soul_lightning.run_folder import strict_json


def output_console() -> Console:
    """Results: tables and closing lines. Made anew each time, because tests and `speaking` exchange the streams."""
    return Console()


@cache
def error_console() -> Console:
    """Progress, notes and errors: one console, so that notes go above a bar that is being drawn."""
    return Console(stderr=True)


def note(text: str) -> None:
    """One line about what is being done, on stderr."""
    error_console().print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Speaker:
    """Says in one mode what a command does and what came of it.

    Attributes:
        command: The command.
        mode: See `soul_lightning.cli.arguments.MODES`.
        stdout: The process's own.
    """

    command: str
    mode: Mode
    stdout: TextIO
    _started_at: float = field(default_factory=time.monotonic)

    def emit(self, event: str, **about: Any) -> None:
        """Write an event in the mode `jsonl`; in the others there are none."""
        if self.mode == "jsonl":
            seconds = round(time.monotonic() - self._started_at, 3)
            self._write(strict_json({"event": event, "seconds": seconds, **about}))

    def close(self, folder: Path, summary: Mapping[str, Any], show: Callable[[], None], key: str = "run") -> None:
        """Say what came of the command.

        Args:
            folder: Where it is.
            summary: Its numbers.
            show: Prints it for people.
            key: What the folder is called in JSON.
        """
        show()
        if self.mode == "quiet":
            self._write(str(folder))
        elif self.mode == "json":
            self._write(strict_json({key: str(folder), **summary}, indent=2))
        self.emit("end", command=self.command, **{key: str(folder)}, summary=dict(summary))

    def _write(self, line: str) -> None:
        print(line, file=self.stdout, flush=True)


_speaker: ContextVar[Speaker | None] = ContextVar("speaker", default=None)


@contextmanager
def speaking(command: str, mode: Mode) -> Iterator[Speaker]:
    """Inside, the command line speaks in a mode, and shows the progress of what is counted.

    In every mode but `text` nothing that is printed reaches stdout: it goes to stderr, and in `quiet` nowhere.

    Args:
        command: The command.
        mode: See `soul_lightning.cli.arguments.MODES`.
    """
    from soul_lightning.cli.bars import bars, work_shown

    speaker = Speaker(command, mode, sys.stdout)
    token = _speaker.set(speaker)
    with ExitStack() as stack:
        stack.callback(_speaker.reset, token)
        if mode == "quiet":
            silence(stack)
        else:
            stack.enter_context(listening(work_shown if is_first_process() else None))
            stack.callback(lambda: bars().end_all())
        if mode in ("json", "jsonl"):
            stack.enter_context(redirect_stdout(sys.stderr))
        yield speaker


@contextmanager
def unspoken() -> Iterator[None]:
    """Inside, nothing is an event: what runs there is a part of something larger, which speaks for it."""
    token = _speaker.set(None)
    try:
        yield
    finally:
        _speaker.reset(token)


def emit(event: str, **about: Any) -> None:
    """An event of the command that is at work, on the first process; nothing where none is, or none speaks in events.

    Args:
        event: Its kind.
        about: What is told of it, as plain values.
    """
    speaker = _speaker.get()
    if speaker is not None and is_first_process():
        speaker.emit(event, **about)


def emits_events() -> bool:
    """Whether the command that is at work speaks in events: the same on every process."""
    speaker = _speaker.get()
    return speaker is not None and speaker.mode == "jsonl"


def is_quiet() -> bool:
    """Whether the command that is at work says nothing but errors and its last line."""
    speaker = _speaker.get()
    return speaker is not None and speaker.mode == "quiet"


def is_first_process() -> bool:
    """Whether this process speaks for all of a distributed run; without lightning there is no other."""
    utilities = sys.modules.get("lightning.pytorch.utilities")
    return utilities is None or getattr(utilities.rank_zero_only, "rank", 0) == 0


def silence(stack: ExitStack) -> None:
    """Say nothing but errors until `stack` is left."""
    stack.enter_context(redirect_stdout(StringIO()))
    console = error_console()
    stack.callback(setattr, console, "quiet", console.quiet)
    console.quiet = True
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    stack.callback(logging.disable, logging.root.manager.disable)
    logging.disable(logging.WARNING)
