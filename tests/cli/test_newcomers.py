"""What a newcomer gets wrong first: exit code 2, one sentence, and in it what to do next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.conftest import Run, write_rows, write_yaml
from tests.cli.test_fit_command import assert_refused, change
from tests.conftest import FORGET

GIVEN: list[tuple[tuple[str, ...], str, str]] = [
    (("fit", "--config", "quickstrat"), "no recipe 'quickstrat'", "did you mean quickstart"),
    (("fit", "--config", "mine/recipe.yaml"), "no file and no recipe 'mine/recipe.yaml'", "recipes"),
    (("fit", "quickstart"), "'quickstart' stands where an option is expected", "--config quickstart"),
    (("fit", "--config", "quickstart", "--minutes", "3"), "no option --minutes of this command", "see it with --help"),
    (("fit", "--config", "wmdp-smollm2"), "is a task; name a method too", "recipes list wmdp-smollm2"),
    (("fit", "--cofnig", "quickstart"), "no option --cofnig", "did you mean --config"),
    (("fit", "--config", "tiny-world"), "recipe of another command", "soul-lightning restor --config tiny-world"),
    (("validate", "runs/nothing"), "'runs/nothing' is no run folder", "give one that fit has written"),
    (("test", "--config", "quickstart", "--quiet", "--json"), "give one of", "--quiet, --json"),
    (("audit", "--config", "quickstart"), "audit needs --model", "--model runs/"),
    (("audit", "--config", "quickstart", "--model", "./nowhere"), "'./nowhere' does not exist", "check the path"),
    (("export", "nowhere", "out"), "'nowhere' is neither a run folder nor a checkpoint", "check the path"),
    (("recipes", "show", "quickstat"), "no recipe 'quickstat'", "did you mean quickstart"),
]


@pytest.mark.parametrize(("args", "named", "way_out"), GIVEN, ids=[" ".join(args) for args, _, _ in GIVEN])
def test_a_command_that_is_given_wrongly(run: Run, args: tuple[str, ...], named: str, way_out: str) -> None:
    outcome = run(*args)
    assert_refused(outcome, named)
    assert way_out in outcome.err


MODEL, DATA = "model.init_args", "data.init_args"
WRITTEN = [
    (f"{MODEL}.network.pretrained_model_name_or_path", "./nowhere", "'./nowhere' does not exist", "check the path"),
    (f"{DATA}.forget", "nowhere.jsonl", "nowhere.jsonl", "check the path"),
    (f"{DATA}.prompt_column", "question", "no column 'question'", "which has 'prompt', 'answer'; name one of them"),
    (f"{DATA}.batchsize", 4, "option 'batchsize'", "did you mean batch_size"),
    ("modle", {"class_path": "UnlearningModule"}, "no key 'modle'", "did you mean model"),
    ("trainer.max_epoch", 1, "option 'max_epoch'", "did you mean max_epochs"),
    (f"{MODEL}.forget.init_args.betta", 0.1, "option 'betta'", "did you mean beta"),
    (f"{MODEL}.forget", "GradientAscend", "no class 'GradientAscend'", "did you mean GradientAscent"),
    (f"{MODEL}.optimizer", "AdmW", "no class 'AdmW'", "did you mean AdamW"),
    (f"{MODEL}.forget", "nowhere_at_all.Loss", "no module named 'nowhere_at_all'", "check the import path"),
    ("trainer.callbacks", ["Utilty"], "no class 'Utilty'", "did you mean Utility"),
    ("trainer.logger", "TensorBordLogger", "no class 'TensorBordLogger'", "did you mean TensorBoardLogger"),
    ("trainer.accelerator", "gpu", "trainer.accelerator: No supported gpu", "set it to auto, or to cpu"),
    ("trainer.accelerator", "cuda", "trainer.accelerator: `CUDAAccelerator`", "set it to auto, or to cpu"),
    ("ckpt_path", "nowhere.ckpt", "'nowhere.ckpt' does not exist", "a .ckpt file, or last"),
    ("ckpt_path", "best", "'best' does not exist", "a .ckpt file, or last"),
    ("ckpt_path", "last", "goes on with a run, and none is named", "give its config.yaml with --config"),
    ("trainer.default_root_dir", "forget.jsonl", "'forget.jsonl' is a file", "choose another folder"),
    ("trainer.default_root_dir", "forget.jsonl/run", "'forget.jsonl/run' cannot be made", "choose another folder"),
]


@pytest.mark.parametrize(
    ("key", "value", "named", "way_out"), WRITTEN, ids=[f"{key}={value}" for key, value, _, _ in WRITTEN]
)
def test_a_recipe_that_says_something_wrong(
    run: Run, config: dict[str, Any], tmp_path: Path, key: str, value: object, named: str, way_out: str
) -> None:
    if key == "trainer.accelerator" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    change(config, key, value)
    outcome = run("fit", "--config", write_yaml(tmp_path / "tiny.yaml", config))
    assert_refused(outcome, named)
    assert way_out in outcome.err
    assert not (tmp_path / "runs").exists()


def test_yaml_that_cannot_be_read_is_named_with_the_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("model:\n  class_path: a: b\n")
    outcome = run("fit", "--config", "mine.yaml")
    assert_refused(outcome, "mine.yaml is no YAML: mapping values are not allowed in this context, line 2, column 16")
    assert "mend that line" in outcome.err


def test_files_without_rows_or_with_broken_ones(run: Run, recipe: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "forget.jsonl", [])
    outcome = run("fit", "--config", recipe)
    assert_refused(outcome, "forget.jsonl has no rows; give a file with at least one")
    (tmp_path / "forget.jsonl").write_text('{"prompt": "who", "answer":')
    outcome = run("fit", "--config", recipe)
    assert_refused(outcome, "forget.jsonl:1 is not valid JSON")
    assert "mend that line" in outcome.err


def test_what_is_nowhere_here_and_no_network(
    run: Run, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    change(config, f"{MODEL}.network.pretrained_model_name_or_path", "nobody/nothing")
    outcome = run("fit", "--config", write_yaml(tmp_path / "tiny.yaml", config))
    assert_refused(outcome, "there is no folder 'nobody/nothing', and the hub gives no tokenizer of that name")
    assert "couldn't connect" in outcome.err and "check the path or the name" in outcome.err


@pytest.mark.parametrize("command", ["fit", "restor", "audit"])
def test_a_folder_that_may_not_be_written_to(
    run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Root may write anywhere, so that the answer to the question is replaced."""
    (tmp_path / "closed").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    args = {
        "fit": ("--config", recipe, "--trainer.default_root_dir", "closed/run"),
        "restor": ("--config", "tiny-world", "--output", "closed/run"),
        "audit": ("--config", "quickstart", "--model", "packaged:tiny_world/clean", "--output", "closed/run"),
    }[command]
    outcome = run(command, *args)
    assert_refused(outcome, "the run folder 'closed/run' cannot be made")
    assert "may not be written to; choose another folder" in outcome.err


def test_an_occupied_folder_names_both_ways_on(run: Run, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "summary.json").write_text("{}")
    outcome = run("fit", "--config", recipe, "--trainer.default_root_dir", "mine")
    assert_refused(outcome, "'mine' already holds another run (summary.json)")
    assert "choose another folder, or go on with that run through --ckpt_path" in outcome.err


def test_without_a_logger_no_curves_are_promised(run: Run, config: dict[str, Any], tmp_path: Path) -> None:
    config["trainer"] |= {"logger": False, "max_epochs": 1}
    outcome = run("fit", "--config", write_yaml(tmp_path / "tiny.yaml", config))
    assert outcome.code == 0, outcome.err
    assert "curves    no logger" in outcome.err
    assert "Curves" not in outcome.out and "tensorboard" not in outcome.out
    assert FORGET and "Next:    soul-lightning audit --config runs/tiny/" in outcome.out
