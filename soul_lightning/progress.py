"""Long work says how far it is, to whoever listens; where nobody does, nothing happens.

The command line listens (`soul_lightning.cli.bars`); a program around this package may, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

Work = TypeVar("Work")
Advance = Callable[[int], None]
"""Is told how many more are done."""
Listener = Callable[[str, int | None, str], AbstractContextManager[Advance]]
"""Is told that work begins: what is done, how many there are (none where nobody knows), and what is counted, in the
plural. Its context lasts as long as the work."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_labels: ContextVar[tuple[str, ...]] = ContextVar("labels", default=())


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Inside, `listener` is told of all work that is counted; none for nobody."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def labelled(label: str) -> Iterator[None]:
    """Inside, work is done for `label`, which stands before what is done."""
    token = _labels.set((*_labels.get(), label))
    try:
        yield
    finally:
        _labels.reset(token)


@contextmanager
def counted(what: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Work that is counted.

    Args:
        what: What is done.
        total: How many there are on this process; none where nobody knows.
        unit: What is counted, in the plural.

    Yields:
        To be told how many more are done.
    """
    listener = _listener.get()
    if listener is None:
        yield lambda done: None
        return
    with listener(", ".join((*_labels.get(), what)), total, unit) as advance:
        yield advance


def tracked(
    work: Iterable[Work], what: str, unit: str, size: Callable[[Work], int] = lambda piece: 1
) -> Iterator[Work]:
    """Each piece of `work`, counted when the next one is asked for.

    Args:
        work: What is done; read once before it begins.
        what: See `counted`.
        unit: See `counted`.
        size: How many of what is counted a piece is; one if it is not given.
    """
    pieces = list(work)
    with counted(what, sum(map(size, pieces)), unit) as advance:
        for piece in pieces:
            yield piece
            advance(size(piece))
