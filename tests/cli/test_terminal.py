"""What a command says in each mode: to people, to nobody, to programs."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from soul_lightning.cli.main import main
from soul_lightning.cli.panels import show_panel
from soul_lightning.cli.terminal import emit, is_quiet, note, speaking, unspoken
from tests.cli.conftest import Run, write_yaml
from tests.test_progress import Heard

Event = dict[str, Any]


def events_of(out: str) -> list[Event]:
    """Each line as the object that it must be."""
    events = [json.loads(line) for line in out.splitlines()]
    assert all(isinstance(event, dict) and next(iter(event)) == "event" for event in events)
    return events


@pytest.fixture
def measured(config: dict[str, Any], tmp_path: Path) -> Path:
    """The recipe of these tests, with a callback that measures."""
    utility = {"probes": {"retain": str(tmp_path / "retain.jsonl")}, "max_new_tokens": 2}
    config["trainer"]["callbacks"] = [{"class_path": "Utility", "init_args": utility}]
    return write_yaml(tmp_path / "tiny.yaml", config)


def test_fit_tells_what_happens_an_event_a_line(run: Run, measured: Path, tmp_path: Path) -> None:
    outcome = run("fit", "--config", measured, "--jsonl", "--seed_everything", "3")
    assert outcome.code == 0, outcome.err
    start, *middle, end = events_of(outcome.out)
    steps = ["step"] * 3
    expected = ["evaluation", *steps, "evaluation", "epoch", *steps, "evaluation", "epoch"]
    assert [event["event"] for event in middle] == expected
    assert all(event["run"] == end["run"] for event in (start, *middle))
    seconds = [event["seconds"] for event in (start, *middle, end)]
    assert seconds == sorted(seconds)

    assert start["event"] == "start" and start["command"] == "fit" and start["recipe"] == "tiny"
    assert start["parameters"] == start["trained_parameters"] > 0
    assert start["streams"]["forget"]["rows"] == 6 and start["streams"]["retain"]["objective"] == "CrossEntropy"
    assert start["streams"]["forget"]["tokens"] > start["streams"]["forget"]["labelled_tokens"] > 0
    assert start["steps"] == 6 and start["epochs"] == 2 and start["first_step"] == 0
    assert start["memory_bytes"] > 0
    assert start["logs"] == [f"tensorboard --logdir {start['run']}"]

    step = middle[1]
    assert (step["step"], step["steps"], step["epoch"], step["epochs"]) == (1, 6, 1, 2)
    assert set(step["losses"]) == {"forget", "retain"}
    assert [event["step"] for event in middle if event["event"] == "evaluation"] == [0, 3, 6]
    last = [event for event in middle if event["event"] == "evaluation"][-1]
    assert last["name"] == "utility"
    assert end["event"] == "end" and end["command"] == "fit"
    assert end["summary"] == json.loads((tmp_path / end["run"] / "summary.json").read_text())
    assert end["summary"] | last["metrics"] == end["summary"]
    assert end["summary"]["seed"] == 3


def test_events_are_as_many_as_are_logged_with_the_bar_or_without(run: Run, recipe: Path) -> None:
    outcome = run(
        "fit", "--config", recipe, "--jsonl", "--trainer.log_every_n_steps", "2", "--trainer.enable_progress_bar=false"
    )
    events = events_of(outcome.out)
    assert [event["step"] for event in events if event["event"] == "step"] == [2, 4, 6]
    assert events[0]["event"] == "start" and "──" not in outcome.err


def test_an_evaluation_has_the_same_events(run: Run, measured: Path) -> None:
    outcome = run("validate", "--config", measured, "--jsonl")
    assert outcome.code == 0, outcome.err
    events = events_of(outcome.out)
    assert [event["event"] for event in events] == ["start", "evaluation", "end"]
    assert [event.get("command") for event in events] == ["validate", None, "validate"]
    assert events[2]["summary"] | events[1]["metrics"] == events[2]["summary"]


def test_an_error_is_an_event_too(run: Run) -> None:
    outcome = run("fit", "--config", "nothing", "--jsonl")
    (event,) = events_of(outcome.out)
    assert outcome.code == event["exit_code"] == 2
    assert outcome.err == f"error: {event['message']}\n"


def test_a_bug_is_told_before_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_settings: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("soul_lightning.cli.fitting.fit", broken)
    with pytest.raises(KeyError):
        main(["fit", "--config", "quickstart", "--jsonl"])
    (event,) = events_of(capsys.readouterr().out)
    assert event == {"event": "error", "message": "KeyError: 'a bug'", "exit_code": 1}


def test_a_quiet_command_says_where_the_results_are(run: Run, measured: Path, tmp_path: Path) -> None:
    outcome = run("fit", "--config", measured, "--quiet")
    assert outcome.code == 0
    assert not outcome.err
    folder = outcome.out.removesuffix("\n")
    assert (tmp_path / folder / "summary.json").is_file() and "\n" not in folder
    again = run("test", folder, "--quiet")
    assert (tmp_path / again.out.strip() / "rows").is_dir() and not again.err
    assert run("export", folder, "out", "--quiet").out == "out\n"
    refused = run("test", "nowhere", "--quiet")
    assert refused.code == 2 and refused.err.startswith("error: ") and not refused.out


def test_quiet_lets_errors_through_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("a library")
    with speaking("fit", "quiet") as speaker:
        assert is_quiet()
        note("a note")
        print("a table")
        warnings.warn("a warning", stacklevel=1)
        logger.warning("a warning")
        emit("step", step=1)
        speaker.close(Path("here"), {}, lambda: print("Results: here"))
        assert not logger.isEnabledFor(logging.WARNING) and logger.isEnabledFor(logging.ERROR)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("here\n", "")
    assert not is_quiet() and logger.isEnabledFor(logging.WARNING)
    note("a note")
    assert capsys.readouterr().err == "a note\n"


def test_the_first_process_alone_tells_events(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with speaking("fit", "jsonl"):
        emit("step", step=1, loss=float("nan"))
        with unspoken():
            emit("step", step=2)
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        emit("step", step=3)
    (event,) = events_of(capsys.readouterr().out)
    assert event["step"] == 1 and event["loss"] is None
    emit("step", step=4)
    assert not capsys.readouterr().out


def test_whatever_takes_long_is_counted(run: Run, measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr("soul_lightning.cli.bars.work_shown", heard)
    assert run("fit", "--config", measured, "--trainer.max_epochs", "1", "--data.cache_dir", "cache").code == 0
    assert ("encoding", 6, "rows") in heard.works
    assert ("caching the reference of forget", 6, "rows") in heard.works
    assert ("utility, asking", 8, "questions") in heard.works
    assert ("utility, scoring", 8, "rows") in heard.works


def test_a_panel_keeps_to_its_columns_and_breaks_no_command() -> None:
    command = "soul-lightning audit --config runs/" + "a" * 100
    console = Console(width=80, record=True, force_terminal=False)
    with console.capture() as capture:
        show_panel(console, "a title", {"memory": "word " * 40, "run": command, "path": "x" * 100}, whole=("run",))
    lines = capture.get().splitlines()
    assert f"run       {command}" in lines and f"path      {'x' * 100}" in lines
    others = [line for line in lines if "aaa" not in line and "xxx" not in line]
    assert all(len(line) <= 80 for line in others)
    assert lines[0].startswith("── a title ─") and len(lines[0]) == len(lines[-1]) == 80
    assert [line[:10] for line in lines[1:4]] == ["memory    ", " " * 10, " " * 10]


@pytest.mark.slow
def test_on_a_real_terminal_bars_come_and_go(recipe: Path, tmp_path: Path) -> None:
    width = 80
    shown, code = on_terminal(["fit", "--config", str(recipe)], tmp_path, width)
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", plain)]
    bars = [line for line in lines if "━" in line]
    assert bars and all(len(line) <= width for line in bars)
    assert re.search(r"epoch 2/2 ━+ 6/6 [\d.]+( steps)?/s, 0:00:00 left forget [\d.]+ retain [\d.]+", bars[-1])
    assert any(line.startswith("── tiny ─") and len(line) == width for line in lines)
    assert any(line.startswith("Next:    soul-lightning audit --config runs/tiny/") for line in lines)
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is there again
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)  # NO_COLOR


def on_terminal(args: list[str], folder: Path, width: int) -> tuple[str, int]:
    """What a command writes to a terminal of its own, and its exit code."""
    main_end, other_end = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(width), "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-m", "soul_lightning.cli", *args],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    os.close(other_end)
    written = b""
    while True:
        try:
            part = os.read(main_end, 65536)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        written += part
    os.close(main_end)
    return written.decode(), process.wait(timeout=60)
