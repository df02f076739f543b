"""Packaged recipes: listed, shown, copied, and every one of them parses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from soul_lightning.cli.audit_config import asked_config, audit_config
from soul_lightning.cli.fitting import check_config
from soul_lightning.cli.recipe_files import find_recipe, packaged_recipes
from soul_lightning.cli.restoring import check_stages
from soul_lightning.cli.stages import parse_config, read_yaml
from tests.cli.conftest import Run

RECIPES = packaged_recipes()


def test_list_names_every_recipe_and_what_it_does(run: Run) -> None:
    listed = " ".join(run("recipes", "list").out.split())
    for name, recipe in RECIPES.items():
        assert name in listed
        assert recipe.title.split()[0] in listed


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_it_does_first(name: str) -> None:
    assert RECIPES[name].text.startswith("# ")
    assert len(RECIPES[name].title) > 20


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.command == "fit"])
def test_every_fit_recipe_parses(run: Run, name: str) -> None:
    outcome = run("fit", "--config", name, "--print_config")
    assert outcome.code == 0, outcome.err
    assert "class_path: soul_lightning" in outcome.out


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.command == "restor"])
def test_every_restor_recipe_parses(name: str) -> None:
    config = parse_config(read_yaml(RECIPES[name].text, name))
    check_stages(config, name)
    assert {config.clean, config.corrupted} <= {stage.name for stage in config.stages}


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.command == "audit"])
def test_every_audit_recipe_parses(name: str, tmp_path: Path) -> None:
    settings, config = audit_config([RECIPES["tiny-world"], RECIPES[name]])
    path = tmp_path / "asked.yaml"
    path.write_text(yaml.safe_dump(asked_config(config, "packaged:tiny_world/clean", 0)))
    check_config(["--config", str(path)], name)
    assert settings.model is None
    assert len(config["trainer"]["callbacks"]) == 7


def test_show_is_the_file(run: Run) -> None:
    assert run("recipes", "show", "quickstart").out == RECIPES["quickstart"].text


def test_copy_does_not_overwrite(run: Run, tmp_path: Path) -> None:
    assert run("recipes", "copy", "quickstart").code == 0
    assert (tmp_path / "quickstart.yaml").read_text() == RECIPES["quickstart"].text
    assert run("recipes", "copy", "quickstart", "mine.yaml").code == 0
    outcome = run("recipes", "copy", "quickstart")
    assert outcome.code == 2
    assert "exists and is not overwritten" in outcome.error


def test_unknown_recipe_shows_the_nearest_names(run: Run) -> None:
    for command in (("fit", "--config", "quikstart"), ("recipes", "show", "quikstart")):
        outcome = run(*command)
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert "'quikstart' (did you mean quickstart?)" in outcome.err


def test_an_existing_file_wins_over_a_recipe_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstart").write_text("# Mine\n")
    assert find_recipe("quickstart").title == "Mine"


def test_a_runs_own_configuration_keeps_the_recipes_name(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "quickstart" / "20250101-120000" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("model: null\n")
    assert find_recipe(str(path)).name == "quickstart"


def test_a_recipe_of_the_other_command_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# Mine\nstages: {}\n")
    outcome = run("fit", "--config", "mine.yaml")
    assert outcome.code == 2
    assert "soul-lightning restor" in outcome.error
