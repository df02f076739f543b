"""Packaged recipes: listed, shown, copied, and every one of them parses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from soul_lightning.cli.audit_config import asked_config, audit_config
from soul_lightning.cli.fitting import check_config
from soul_lightning.cli.recipe_files import find_recipe, packaged_recipes, packaged_tasks
from soul_lightning.cli.stages import parse_config, read_yaml
from tests.cli.conftest import Run

RECIPES = packaged_recipes()


def test_list_names_every_recipe_and_every_task_in_a_line_of_80_columns(run: Run) -> None:
    lines = run("recipes", "list").out.splitlines()
    named = [line.split()[0] for line in lines if line.startswith("  ")]
    assert {name for name, recipe in RECIPES.items() if recipe.method is None} | set(packaged_tasks()) <= set(named)
    assert max(map(len, lines)) <= 80
    titles = [recipe.title for recipe in RECIPES.values() if recipe.method is None]
    assert all(any(title.rpartition(" (")[0] in line for line in lines) for title in titles)


def test_list_of_a_task_names_its_methods(run: Run) -> None:
    listed = run("recipes", "list", "tofu").out
    assert "tofu/graddiff-sophia" in listed and "SOUL, SO-GradDiff" in listed and "fit --config" in listed
    outcome = run("recipes", "list", "tofo")
    assert outcome.code == 2
    assert "there is no task 'tofo' (did you mean tofu?)" in outcome.error


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_it_does_first(name: str) -> None:
    assert RECIPES[name].text.startswith("# ")
    assert len(RECIPES[name].title) > 20
    assert RECIPES[name].title.endswith(f"({RECIPES[name].command}).")


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.command == "restor"])
def test_every_restor_recipe_has_what_its_table_compares(name: str) -> None:
    config = parse_config(read_yaml(RECIPES[name].text, name))
    assert {config.clean, config.corrupted, config.baseline} <= {stage.name for stage in config.stages}


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.command == "audit"])
def test_every_audit_recipe_parses(name: str, tmp_path: Path) -> None:
    settings, config = audit_config([RECIPES["tiny-world"], RECIPES[name]])
    path = tmp_path / "asked.yaml"
    path.write_text(yaml.safe_dump(asked_config(config, "packaged:tiny_world/clean", 0)))
    check_config(["--config", str(path)], name)
    assert settings.model is None
    assert len(config["trainer"]["callbacks"]) == 7


def test_show_is_the_file_of_a_recipe_without_layers(run: Run) -> None:
    assert run("recipes", "show", "requests-tiny-world").out == RECIPES["requests-tiny-world"].path.read_text()


def test_show_says_which_layer_each_part_is_from(run: Run) -> None:
    shown = run("recipes", "show", "tofu/graddiff-sophia").out
    assert read_yaml(shown, "shown") == read_yaml(RECIPES["tofu/graddiff-sophia"].text, "text")
    found = {line.split(":")[0].strip(): line for line in shown.splitlines() if "[" in line}
    assert "0.3" not in shown and found["retain_weight"].split() == ["retain_weight:", "2.0", "#", "[tasks/tofu]"]
    for key, origin in (("rho", "optimizer/sophia"), ("data", "data/tofu"), ("forget", "objective/graddiff")):
        assert f"[{origin}]" in shown.split(f"{key}:")[0].rsplit("\n", 2)[-2] + found.get(key, "")
    assert "# graddiff-sophia: SOUL, SO-GradDiff." in shown


def test_copy_does_not_overwrite(run: Run, tmp_path: Path) -> None:
    assert run("recipes", "copy", "quickstart").code == 0
    assert (tmp_path / "quickstart.yaml").read_text() == RECIPES["quickstart"].text
    assert run("recipes", "copy", "quickstart", "mine.yaml").code == 0
    outcome = run("recipes", "copy", "quickstart")
    assert outcome.code == 2
    assert "exists and is not overwritten" in outcome.error


def test_a_copy_of_a_method_runs_alone(run: Run, tmp_path: Path) -> None:
    assert run("recipes", "copy", "tiny-world/simnpo-adamw").code == 0
    copied = (tmp_path / "tiny-world-simnpo-adamw.yaml").read_text()
    assert "layers:" not in copied and "[objective/simnpo]" not in copied
    small = ("--trainer.max_steps=1", "--trainer.callbacks=[]", "--trainer.default_root_dir=run")
    outcome = run("fit", "--config", "tiny-world-simnpo-adamw.yaml", *small, "--export=false")
    assert outcome.code == 0, outcome.err
    again = run("fit", "--config", "tiny-world/simnpo-adamw", *small[:2], "--trainer.default_root_dir=again", "--json")
    assert json.loads(again.out)["optimizer_steps"] == 1
    first, second = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "again"))
    assert first["recipe_hash"] != "" and first["data_hashes"] == second["data_hashes"]
    assert second["recipe"] == "tiny-world/simnpo-adamw"


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
