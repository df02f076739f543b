"""A limit that is looked at between passes."""

from __future__ import annotations

import pytest

from soul_lightning.scoring.time_limit import OutOfTime, check_time, time_limit


def test_only_what_is_over_raises() -> None:
    check_time()  # without a limit
    with time_limit(3600):
        check_time()
        with pytest.raises(OutOfTime), time_limit(-1):
            check_time()
        check_time()  # the outer one again
    with time_limit(None):
        check_time()


def test_something_else_may_ask_for_an_end() -> None:
    signals: list[int] = []
    with time_limit(None, lambda: bool(signals)):
        check_time()
        signals.append(15)
        with pytest.raises(OutOfTime):
            check_time()
    check_time()
