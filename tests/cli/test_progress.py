"""The bar fits the terminal, and says nothing but lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from soul_lightning.cli import progress as progress_module
from soul_lightning.cli.progress import counted, make_progress, timing


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("total", [60, 100_000])
def test_one_line_at_80_and_120_columns(width: int, total: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    progress = make_progress(console)
    progress.add_task("epoch 10/10", total=total, completed=total // 2, losses="forget 0.123 retain 12.3")
    with console.capture() as capture:
        console.print(progress.get_renderable())
    lines = capture.get().rstrip("\n").split("\n")
    assert len(lines) == 1
    assert len(lines[0]) <= width
    assert f"{total // 2}/{total}" in lines[0]
    assert "forget 0.123 retain 12.3" in lines[0]


def test_counted_work_shows_its_rate_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None, record=True)
    monkeypatch.setattr(progress_module, "error_console", lambda: console)
    with counted("clean: asking", 3, "questions") as advance:
        for _ in range(3):
            advance(1)
    shown = console.export_text()
    assert "clean: asking" in shown and "3/3" in shown


def test_counted_work_is_one_line_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False, record=True)
    monkeypatch.setattr(progress_module, "error_console", lambda: console)
    with counted("clean: asking", 3, "questions") as advance:
        advance(3)
    assert console.export_text() == "clean: asking: 3 questions\n"


def test_timing_leaves_out_what_is_not_known() -> None:
    assert timing(12.34, 3725.0) == "12.3 steps/s, 1:02:05 left"
    assert timing(None, None) == ""
    assert timing(2.0, None) == "2 steps/s"
    assert timing(2.0, None, "questions") == "2 questions/s"
