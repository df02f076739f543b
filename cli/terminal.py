"""Where the command line writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from typing import TextIO

from rich.console import Console


def output_console() -> Console:
    """Results: tables and closing lines. Made anew each time, because tests and `only_json` exchange the streams."""
    return Console()


@cache
def error_console() -> Console:
    """Progress, notes and errors: one console, so that notes go above a bar that is being drawn."""
    return Console(stderr=True)


def note(text: str) -> None:
    """One line about what is being done, on stderr."""
    error_console().print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def only_json(wanted: bool) -> Iterator[TextIO]:
    """Inside, whatever is printed goes to stderr if `wanted`; yields the real stdout, for the JSON."""
    stdout = sys.stdout
    if not wanted:
        yield stdout
        return
    with redirect_stdout(sys.stderr):
        yield stdout
