"""A time limit that long measurements look at between passes, so that a budget of minutes is kept to within one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_end: ContextVar[float | None] = ContextVar("end", default=None)


class OutOfTime(Exception):
    """The time inside a `time_limit` is up."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Inside, `check_time` raises once `seconds` are over.

    Args:
        seconds: By the wall clock; none for no limit.
    """
    token = _end.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def check_time() -> None:
    """Called between passes and steps of whatever may take long.

    Raises:
        OutOfTime: The limit around it is over.
    """
    end = _end.get()
    if end is not None and time.monotonic() > end:
        raise OutOfTime
