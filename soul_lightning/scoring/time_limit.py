"""A time limit that long measurements look at between passes, so that a budget of minutes is kept to within one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_over: ContextVar[Callable[[], bool] | None] = ContextVar("is_over", default=None)


class OutOfTime(Exception):
    """The time inside a `time_limit` is up."""


@contextmanager
def time_limit(seconds: float | None, stopped: Callable[[], bool] | None = None) -> Iterator[None]:
    """Inside, `check_time` raises once `seconds` are over, or something else asks for an end.

    Args:
        seconds: By the wall clock; none for no limit.
        stopped: Whether something else does, such as a signal.
    """
    end = None if seconds is None else time.monotonic() + seconds

    def is_over() -> bool:
        return (end is not None and time.monotonic() > end) or (stopped is not None and stopped())

    token = _is_over.set(is_over)
    try:
        yield
    finally:
        _is_over.reset(token)


def check_time() -> None:
    """Called between passes and steps of whatever may take long.

    Raises:
        OutOfTime: The limit around it is over.
    """
    is_over = _is_over.get()
    if is_over is not None and is_over():
        raise OutOfTime
