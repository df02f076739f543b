"""`validate` and `test`: a model is measured with a recipe's callbacks, and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from tests.cli.conftest import Run, write_yaml
from tests.conftest import make_network


@pytest.fixture
def measured(config: dict[str, Any], tmp_path: Path) -> Path:
    """The recipe with callbacks that measure."""
    config["trainer"]["callbacks"] = [
        {"class_path": "Utility", "init_args": {"limit": 3, "max_new_tokens": 4}},
        {"class_path": "Memorization", "init_args": {"limit": 3, "max_new_tokens": 4}},
    ]
    return write_yaml(tmp_path / "measured.yaml", config)


def only_folder(parent: Path) -> Path:
    (folder,) = parent.iterdir()
    return folder


@pytest.mark.parametrize(("command", "rows"), [("validate", 3), ("test", 8)])
def test_a_folder_is_measured_and_not_trained(
    run: Run, measured: Path, model_folder: Path, tmp_path: Path, command: str, rows: int
) -> None:
    before = load_file(model_folder / "model.safetensors")
    outcome = run(command, "--config", measured, "--network", model_folder)
    assert outcome.code == 0, outcome.err
    assert "Evaluation" in outcome.out and "memorization" in outcome.out and "retain_probability" in outcome.out
    folder = only_folder(tmp_path / "runs" / "measured")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["evaluation"] == command and summary["model"] == str(model_folder)
    assert summary["optimizer_steps"] == 0 and 0 < summary["utility/retain_probability"] < 1
    lines = (folder / "rows" / "utility_model.jsonl").read_text().splitlines()
    assert len([line for line in lines if json.loads(line)["probe"] == "retain"]) == rows  # test takes every row
    assert not (folder / "export").exists() and not (folder / "checkpoints").exists()
    after = load_file(model_folder / "model.safetensors")
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_a_run_folder_stands_for_its_configuration_and_its_model(run: Run, measured: Path, tmp_path: Path) -> None:
    given = ("--config", measured, "--trainer.enable_progress_bar=false", "--checkpoint.keep", "true")
    assert run("fit", *given).code == 0
    trained = only_folder(tmp_path / "runs" / "measured")
    outcome = run("validate", trained, "--trainer.max_epochs", "5", "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert Path(summary["run"]).parent == trained / "validate"
    fitted = json.loads((trained / "summary.json").read_text())
    for name in ("utility/retain_probability", "memorization/exact_memorization"):
        assert summary[name] == pytest.approx(fitted[name], rel=1e-4)
    assert run("validate", trained, "--output", "apart").code == 0
    assert json.loads((tmp_path / "apart" / "summary.json").read_text())["evaluation"] == "validate"
    checkpoint = next((trained / "checkpoints").glob("*.ckpt"))
    again = run("test", trained, "--ckpt_path", checkpoint, "--json")
    assert again.code == 0, again.err
    assert 0 < json.loads(again.out)["utility/retain_probability"] < 1


def test_a_soup_is_not_averaged_once_more(
    run: Run, config: dict[str, Any], measured: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    make_network(len(tokenizer), seed=1).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    config["model"]["init_args"]["network"]["soup"] = [str(tmp_path / "other")]
    souped = write_yaml(tmp_path / "souped.yaml", config)
    assert run("fit", "--config", souped, "--trainer.enable_progress_bar=false").code == 0
    trained = only_folder(tmp_path / "runs" / "souped")
    outcome = run("validate", trained, "--json")
    assert outcome.code == 0, outcome.err
    fitted = json.loads((trained / "summary.json").read_text())
    name = "utility/retain_probability"
    assert json.loads(outcome.out)[name] == pytest.approx(fitted[name], rel=1e-4)


def test_mistakes_get_one_sentence_and_leave_nothing(
    run: Run, measured: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    assert "needs --config NAME or FILE, or a run folder" in run("validate").error
    assert "is no run folder (no config.yaml)" in run("test", tmp_path / "nothing").error
    outcome = run("validate", "--config", measured, "--network", tmp_path / "nothing")
    assert outcome.code == 2 and "does not exist" in outcome.error
    config["trainer"]["callbacks"] = []
    silent = write_yaml(tmp_path / "silent.yaml", config)
    assert "no callback that measures" in run("validate", "--config", silent).error
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text(measured.read_text())
    assert "has exported no model" in run("test", empty).error
    assert not (tmp_path / "runs").exists()
