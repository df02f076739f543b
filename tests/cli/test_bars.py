"""Bars fit the terminal, and elsewhere there are whole lines at a modest rate."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from soul_lightning.cli import bars as bars_module
from soul_lightning.cli.bars import SECONDS_PER_LINE, Bars, Lines, make_progress, pace, timing, work_shown

LOSSES = "forget 0.123 retain 12.3"


def terminal(monkeypatch: pytest.MonkeyPatch, width: int = 80, is_one: bool = True) -> io.StringIO:
    """Stands for the process's terminal, or for a file that stderr goes to."""
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=is_one, color_system=None)
    monkeypatch.setattr(bars_module, "error_console", lambda: console)
    shared = Bars()
    monkeypatch.setattr(bars_module, "bars", lambda: shared)
    return written


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("total", [60, 100_000])
def test_a_line_a_bar_at_80_and_120_columns(width: int, total: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    progress = make_progress(console)
    begun: dict[str, Any] = {"begun": 0, "begun_at": time.monotonic() - total / 24.68, "shown_at": 0.0}
    progress.add_task("epoch 10/10", total=total, completed=total // 2, unit="steps", losses=LOSSES, **begun)
    progress.add_task("restoration, clean model, asking", total=None, completed=3, unit="questions", losses="", **begun)
    with console.capture() as capture:
        console.print(progress.get_renderable())
    first, second = capture.get().rstrip("\n").split("\n")
    assert len(first) <= width and len(second) <= width
    assert f"{total // 2}/{total}" in first and LOSSES in first
    assert ("12.3 steps/s, " if width == 120 else "12.3/s, ") in first and " left" in first
    assert second.startswith("restoration, clean model, asking ") and " 3 " in second


def test_bars_come_and_go_and_the_last_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    written = terminal(monkeypatch)
    shared = Bars()
    run = shared.add("epoch 1/1", 4, "steps")
    part = shared.add("utility, scoring", 8, "rows")
    shared.update(run, completed=4)
    shared.end(part)
    shared.end(part)  # a second time, as after an error
    shared.end(run, stays=True)
    last = written.getvalue()
    assert last.endswith("\x1b[?25h") or "\x1b[?25h" in last[-20:]  # the cursor is shown again
    assert last.rsplit("epoch 1/1", 1)[1].count("4/4") == 1
    shared.update(run, completed=2)
    assert written.getvalue() == last


def test_short_work_has_no_bar_and_long_work_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    written = terminal(monkeypatch)
    with work_shown("clean: asking", 3, "questions") as advance:
        advance(3)
    assert "asking" not in written.getvalue()
    monkeypatch.setattr(bars_module, "SECONDS_BEFORE_A_BAR", 0.0)
    with work_shown("clean: asking", 3, "questions") as advance:
        for _ in range(3):
            advance(1)
        time.sleep(0.3)
    assert "clean: asking" in written.getvalue() and "3/3" in written.getvalue()


def test_elsewhere_long_work_says_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = terminal(monkeypatch, is_one=False)
    now = [0.0]
    shared = Lines(lambda: now[0])
    monkeypatch.setattr(bars_module, "lines", lambda: shared)
    with work_shown("utility, scoring", 400, "rows") as advance:
        for _ in range(40):
            now[0] += SECONDS_PER_LINE / 10
            advance(10)
    said = written.getvalue().splitlines()
    assert [line.split(", ")[1] for line in said] == [f"scoring: {done} of 400 rows" for done in (100, 200, 300)]
    assert all(line.endswith(" left") and "\x1b" not in line for line in said)
    with work_shown("caching", None, "rows") as advance:
        now[0] += SECONDS_PER_LINE
        advance(5)
    assert written.getvalue().splitlines()[-1].startswith("caching: 5 rows, ")


def test_what_has_no_room_keeps_its_end() -> None:
    shared = Bars()
    long = "relearning, retain-only model, related, a long name of something, scoring"
    assert bars_module._shortened(long, 80) == "…" + long[-35:]
    assert bars_module._shortened(long, 120) == long
    assert shared.console.stderr


def test_pace_counts_from_where_the_clock_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 110.0)
    assert pace(20, 100.0, 50, 80) == (2.0, 15.0)
    assert pace(20, 100.0, 50, None) == (2.0, None)
    assert pace(0, 100.0, 30, 80) == (None, None)


def test_timing_leaves_out_what_is_not_known() -> None:
    assert timing(12.34, 3725.0) == "12.3 steps/s, 1:02:05 left"
    assert timing(None, None) == ""
    assert timing(2.0, None) == "2 steps/s"
    assert timing(2.0, None, "questions") == "2 questions/s"
    assert timing(2.0, 5.0, "") == "2/s, 0:00:05 left"
