"""The dispatcher: light, one sentence for a mistake, a traceback for a bug."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from soul_lightning.cli import recipes_command
from soul_lightning.cli.main import main
from tests.cli.conftest import Run

LIGHT = (
    ["--help"],
    ["recipes", "list"],
    ["recipes", "show", "quickstart"],
    ["fit", "--help"],
    ["restor", "--help"],
    ["compare", "--help"],
    ["export", "--help"],
)
HEAVY = "{'torch', 'lightning', 'transformers', 'jsonargparse', 'datasets', 'matplotlib'}"


@pytest.mark.parametrize("args", LIGHT, ids=" ".join)
def test_help_and_recipes_import_nothing_heavy(args: list[str]) -> None:
    code = (
        f"import sys; from soul_lightning.cli.main import main; code = main({args!r}); "
        f"loaded = {HEAVY} & set(sys.modules); assert not loaded, loaded; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert not done.stderr


def test_module_entry_point() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soul_lightning.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("soul-lightning ")


def test_help_of_every_command_names_its_options(run: Run) -> None:
    assert "--config" in run("fit", "--help").out
    assert "--output" in run("restor", "--help").out
    assert "destination" in run("export", "--help").out
    assert "--network" in run("validate", "--help").out and "[RUN]" in run("test", "--help").out
    assert run().code == 0


def test_unknown_command_gets_one_sentence(run: Run) -> None:
    outcome = run("fti")
    assert outcome.code == 2
    assert outcome.err == (
        "error: there is no command 'fti' (did you mean fit?); "
        "the commands are fit, validate, test, restor, compare, requests, describe, audit, recipes, export\n"
    )
    assert not outcome.out


def test_debug_shows_the_traceback_of_a_mistake(run: Run) -> None:
    outcome = run("recipes", "show", "nothing", "--debug")
    assert outcome.code == 2
    assert "Traceback" in outcome.err
    assert "Traceback" not in run("recipes", "show", "nothing").err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: Sequence[str]) -> int:
        raise KeyError("a bug")

    monkeypatch.setattr(recipes_command, "run", broken)
    with pytest.raises(KeyError):
        main(["recipes", "list"])


def test_arguments_of_the_process_stay_as_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["soul-lightning", "recipes", "list"]
    monkeypatch.setattr(sys, "argv", list(arguments))
    assert main() == 0
    assert sys.argv == arguments
