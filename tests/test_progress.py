"""Long work says how far it is to whoever listens, under the names of what it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from soul_lightning.progress import counted, labelled, listening, tracked


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.works: list[tuple[str, int | None, str]] = []
        self.done: list[int] = []
        self.is_open = False

    @contextmanager
    def __call__(self, what: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        """Told of a work."""
        self.works.append((what, total, unit))
        self.is_open = True
        try:
            yield self.done.append
        finally:
            self.is_open = False


def test_a_listener_hears_what_is_done_and_for_what() -> None:
    heard = Heard()
    with listening(heard), labelled("utility"), labelled("clean model"):
        with counted("scoring", 3, "rows") as advance:
            advance(2)
            advance(1)
    assert heard.works == [("utility, clean model, scoring", 3, "rows")]
    assert heard.done == [2, 1]
    assert not heard.is_open


def test_nobody_need_listen() -> None:
    heard = Heard()
    with listening(heard):
        with listening(None), counted("scoring", 3, "rows") as advance:
            advance(3)
        assert not heard.works
    with counted("scoring", None, "rows") as advance:
        advance(3)
    assert not heard.works


def test_tracked_work_counts_each_piece_when_it_is_done() -> None:
    heard = Heard()
    with listening(heard):
        for number, piece in enumerate(tracked([[1, 2], [3]], "scoring", "rows", len)):
            assert len(heard.done) == number and piece
    assert heard.works == [("scoring", 3, "rows")]
    assert heard.done == [2, 1]


def test_an_error_ends_the_work() -> None:
    heard = Heard()
    with pytest.raises(ValueError), listening(heard):
        for _ in tracked([1, 2], "probing", "layers"):
            raise ValueError
    assert heard.done == []
    assert not heard.is_open
