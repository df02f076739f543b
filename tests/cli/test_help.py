"""Every help is readable at 100 columns."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from soul_lightning.cli.main import COMMANDS
from tests.cli.conftest import Run

MOST_COLUMNS = 100


@pytest.fixture(autouse=True, params=[100, 160], ids=["100 columns", "160 columns"])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How wide the terminal is."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def longest(text: str) -> str:
    """The line that takes most columns."""
    return max(text.splitlines(), key=cell_len)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_of_a_command(run: Run, command: str, columns: int) -> None:
    outcome = run(*([command] if command else []), "--help")
    assert outcome.code == 0
    assert cell_len(longest(outcome.out)) <= columns, longest(outcome.out)
    assert "Usage: " in outcome.out or "usage: " in outcome.out


@pytest.mark.parametrize("args", [("--help-all",), ("--config", "quickstart", "--help-all")], ids=" ".join)
def test_the_help_of_all_options(run: Run, args: tuple[str, ...]) -> None:
    outcome = run("fit", *args)
    assert outcome.code == 0
    assert cell_len(longest(outcome.out)) <= MOST_COLUMNS, longest(outcome.out)
    assert not [line for line in outcome.out.splitlines() if line != line.rstrip()]
    assert len(outcome.out.splitlines()) < 300
    assert outcome.out.startswith("usage: soul-lightning fit --config NAME|FILE [OPTIONS]\n")
    for title in (
        "The Trainer, as lightning has it:",
        "What is trained, and how:",
        "What it is trained and measured on:",
    ):
        assert f"\n{title}\n" in outcome.out
    for option in ("--trainer.max_epochs", "--model", "--data", "--checkpoint.keep", "--seed_everything"):
        assert f"\n  {option} " in outcome.out
    assert "classes: " in outcome.out and "InfluenceUnlearningModule" in outcome.out
    for told_elsewhere in (".help [", "known subclasses", "StepProgressBar", ":class:", "``"):
        assert told_elsewhere not in outcome.out


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--model", "UnlearningModule"),
        ("--model", "LocateAndEditModule"),
        ("--data", "RecordsDataModule"),
        ("--model.optimizer", "Sophia"),
        ("--trainer.callbacks", "RelearningAttack"),
    ],
)
def test_the_help_of_a_class(run: Run, option: str, name: str) -> None:
    outcome = run("fit", f"{option}.help", name)
    assert outcome.code == 0
    assert cell_len(longest(outcome.out)) <= MOST_COLUMNS, longest(outcome.out)
    assert name in outcome.out and "(type: " in outcome.out.replace("\n", " ")
