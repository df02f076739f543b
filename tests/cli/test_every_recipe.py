"""Every packaged recipe, by glob, is built as it stands and takes a step; only models and data are tiny stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser

from soul_lightning.callbacks.base import ProbeCallback
from soul_lightning.cli.comparison_config import parse_comparison
from soul_lightning.cli.fitting import FitCLI
from soul_lightning.cli.recipe_files import packaged_layers, packaged_recipes, packaged_tasks
from soul_lightning.cli.request_config import parse_requests
from soul_lightning.cli.request_plan import plan_requests
from soul_lightning.cli.stages import Stage, filled, merged, parse_config, read_yaml
from soul_lightning.modules.base import StreamModule
from tests.cli.recipe_worlds import write_deep_model, write_stand_ins

RECIPES = packaged_recipes()
FIT = [name for name, recipe in RECIPES.items() if recipe.command == "fit"]
DIFFERENT = {json.dumps(read_yaml(RECIPES[name].text, name), sort_keys=True): name for name in FIT}.values()
"""One recipe of each configuration: a plain name stands for one of a task's methods."""
ONE_STEP = {
    "max_epochs": 1, "max_steps": -1, "limit_train_batches": 1, "accelerator": "cpu", "devices": 1,
    "precision": "32-true", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False,
}  # fmt: skip
READ_EVERYTHING = ("InfluenceUnlearningModule", "TargetedUnlearningModule", "LocateAndEditModule")
"""Their one step is many passes over all rows, which their own tests make."""
OBJECTIVES, OPTIMIZERS = ("graddiff", "po", "npo", "simnpo", "rmu"), ("adamw", "sophia")
WITHOUT_QUESTIONS = ("restor", "restor-smollm2", "wmdp", "wmdp-smollm2")


@dataclass(frozen=True)
class World:
    """A stand-in model, and by DataModule the settings of stand-in data."""

    model: Path
    data: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("stand_ins")
    return World(write_deep_model(folder / "model"), write_stand_ins(folder))


def with_stand_ins(config: Mapping[str, Any], world: World) -> dict[str, Any]:
    """A `fit` configuration whose model and data are small, and all else as it stands."""
    network = config["model"]["init_args"]["network"]
    own = network["pretrained_model_name_or_path"]
    model = own if own.startswith("packaged:") else str(world.model)
    changed = merged(config, {"model": {"init_args": {"network": {"pretrained_model_name_or_path": model}}}})
    changed["model"]["init_args"]["network"] |= {"soup": [], "random_weights": model == "packaged:behavior/untrained"}
    data = changed["data"]["init_args"] = changed["data"]["init_args"] | world.data[changed["data"]["class_path"]]
    if data.get("documents_per_entity") is not None:
        data["documents_per_entity"] = 4
    if isinstance(data.get("corruption"), dict):
        data["corruption"] = merged(data["corruption"], {"init_args": {"entities": 2}})
    changed["trainer"] = changed.get("trainer", {}) | ONE_STEP
    if "alphas" in changed["model"]["init_args"]:  # an epoch for each, behind one of training
        changed["model"]["init_args"]["alphas"] = [1.0]
        changed["trainer"]["max_epochs"] = 2
    return changed


@pytest.fixture(scope="module", autouse=True)
def one_parser() -> Iterator[None]:
    """Making lightning's parser anew takes longer than a step; all recipes are read by the same one."""
    made: list[LightningArgumentParser] = []
    set_up = FitCLI.setup_parser

    def setup_parser(self: FitCLI, *settings: Any) -> None:
        if not made:
            set_up(self, *settings)
            made.append(self.parser)
        self.parser = made[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(FitCLI, "setup_parser", setup_parser)
        yield


def take_a_step(cli: FitCLI) -> None:
    """Train one step, not measured by the callbacks."""
    built: Any = cli.trainer
    built.callbacks = [callback for callback in built.callbacks if not isinstance(callback, ProbeCallback)]
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    assert cli.trainer.global_step >= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_recipe_of_fit_is_built_and_takes_a_step(name: str, world: World, tmp_path: Path) -> None:
    config = read_yaml(RECIPES[name].text, name)
    named = [each["class_path"] if isinstance(each, dict) else each for each in config["trainer"]["callbacks"]]
    cli = FitCLI(with_stand_ins(config, world), name, tmp_path / "run")
    assert isinstance(cli.model, StreamModule) and isinstance(cli.datamodule, LightningDataModule)
    built = [type(each).__name__ for each in cli.config_init.trainer.callbacks]
    assert built == named
    take_a_step(cli)


@cache
def stages_of(name: str) -> list[Stage]:
    """Every run that a recipe of another command plans."""
    raw = read_yaml(RECIPES[name].text, name)
    if RECIPES[name].command == "compare":
        comparison = parse_comparison(raw)
        first, last = comparison.pairs[0], comparison.pairs[-1]
        pairs = [
            each for each in comparison.pairs if each.optimizer == last.optimizer or each.objective == first.objective
        ]
        return [*comparison.stages, *(pair.at(1.0e-4) for pair in pairs)]
    if RECIPES[name].command == "requests":
        return list(plan_requests(parse_requests(raw)).stages)
    return list(parse_config(raw).stages)


def distinct_stages() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each run that differs from those of the recipes before it, by the name of its recipe and its own."""
    seen: set[str] = set()
    for recipe in RECIPES.values():
        for stage in stages_of(recipe.name) if recipe.command in ("restor", "compare", "requests") else ():
            text = json.dumps(stage.config, sort_keys=True)
            if stage.pretrained is None and text not in seen:
                seen.add(text)
                yield f"{recipe.name}: {stage.name}", stage.config


STAGES = dict(distinct_stages())


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_built_and_takes_a_step(name: str, world: World, tmp_path: Path) -> None:
    small = "behavior/untrained" if name.startswith("behavior") else "tiny_world/corrupted"
    config = filled(STAGES[name], 0, Packaged(small) if "smollm2" not in name and "restor" not in name else {})
    cli = FitCLI(with_stand_ins(config, world), "stage", tmp_path / "run")
    assert type(cli.model).__name__ == STAGES[name]["model"]["class_path"].rpartition(".")[2]
    if STAGES[name]["model"]["class_path"] not in READ_EVERYTHING:
        take_a_step(cli)


class Packaged(dict[str, str]):
    """The packaged model in place of that of any stage."""

    def __init__(self, name: str) -> None:
        self.model = f"packaged:{name}"

    def get(self, key: object, default: object = None) -> Any:
        return self.model


def test_every_file_belongs_to_something() -> None:
    """A file that no test reads is one that nobody would miss."""
    folder = next(iter(RECIPES.values())).path.parent
    read = {recipe.path for recipe in (*RECIPES.values(), *packaged_layers().values())}
    assert set(folder.rglob("*.yaml")) == read


def test_every_task_has_every_method_that_makes_sense() -> None:
    for task, methods in packaged_tasks().items():
        objectives = [each for each in OBJECTIVES if each != "po" or task not in WITHOUT_QUESTIONS]
        found = {str(recipe.method) for recipe in methods}
        assert {f"{objective}-{optimizer}" for objective in objectives for optimizer in OPTIMIZERS} <= found
        assert not {f"po-{optimizer}" for optimizer in OPTIMIZERS} & found or task not in WITHOUT_QUESTIONS


def test_every_layer_serves_a_recipe() -> None:
    shown = "".join(recipe.composed(origins=True) for recipe in RECIPES.values() if recipe.is_layered)
    unused = [name for name in packaged_layers() if f"[{name}]" not in shown]
    assert unused == ["model/opt-1.3b"]  # it stands in for another model, on the command line alone
