"""A run that diverges ends with exit code 2, its last good weights, and a summary that says so."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from soul_lightning.cli.divergence import with_place
from soul_lightning.exceptions import TrainingDivergedError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives import GradientAscent
from tests.cli.conftest import Outcome, Run, write_yaml


class BreaksAfter(GradientAscent):
    """Not a number from the call on that `calls` says, counted over all runs of a test."""

    calls = 2
    made = 0

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        BreaksAfter.made += 1
        loss = super().summed(predictions, reference)
        return loss * math.nan if BreaksAfter.made > self.calls else loss


class BreaksWeights(UnlearningModule):
    """A step of its own makes a weight infinite, and all steps after it are skipped."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step == 2:
            with torch.no_grad():
                next(self.network.parameters())[:] = math.inf


class Keeps(UnlearningModule):
    """Remembers its weights after each step."""

    seen: list[Tensor]

    def on_train_start(self) -> None:
        super().on_train_start()
        Keeps.seen = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        Keeps.seen.append(self.network.get_parameter("model.norm.weight").detach().clone())


@pytest.fixture
def diverging(config: dict[str, Any]) -> dict[str, Any]:
    """Ascent with SGD, six steps in all; one skipped step is one too many after the second."""
    BreaksAfter.made = 0
    module = config["model"]["init_args"]
    module |= {
        "forget": f"{__name__}.BreaksAfter",
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        "curvature": None,
        "max_skipped_steps": 1,
    }
    config["model"]["class_path"] = f"{__name__}.Keeps"
    config["trainer"] |= {"enable_progress_bar": False}
    return config


def started(run: Run, config: dict[str, Any], tmp_path: Path, *more: str) -> Outcome:
    recipe = write_yaml(tmp_path / "diverges.yaml", config)
    return run("fit", "--config", recipe, "--trainer.default_root_dir", tmp_path / "r", *more)


def exported(tmp_path: Path) -> Tensor:
    weight: Tensor = AutoModelForCausalLM.from_pretrained(tmp_path / "r" / "export").state_dict()["model.norm.weight"]
    return weight


@pytest.mark.filterwarnings("ignore:optimizer step")
def test_steps_in_a_row_that_are_not_finite(run: Run, diverging: dict[str, Any], tmp_path: Path) -> None:
    outcome = started(run, diverging, tmp_path)
    assert outcome.code == 2
    assert outcome.error.startswith(
        "error: the run diverged at optimizer step 2: 2 optimizer steps in a row had a non-finite loss or gradient"
    )
    assert outcome.error.endswith(f"; the last good weights are in {tmp_path / 'r' / 'export'}")
    assert len(Keeps.seen) == 3  # two steps, one that was skipped; the next raised
    assert torch.equal(exported(tmp_path), Keeps.seen[1])
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["diverged_at_step"] == summary["optimizer_steps"] == 2
    assert "non-finite" in summary["diverged"]
    assert summary["train/skipped_steps"] == 1
    card = (tmp_path / "r" / "export" / "README.md").read_text()
    assert "The run diverged at optimizer step 2 and was stopped" in card


@pytest.mark.filterwarnings("ignore:optimizer step")
def test_without_a_single_good_step_nothing_is_left(run: Run, diverging: dict[str, Any], tmp_path: Path) -> None:
    BreaksAfter.made = BreaksAfter.calls
    outcome = started(run, diverging, tmp_path)
    assert outcome.code == 2
    assert "2 optimizer steps in a row" in outcome.error
    assert not (tmp_path / "r").exists()


@pytest.mark.filterwarnings("ignore:optimizer step")
def test_no_export_where_none_was_asked_for(run: Run, diverging: dict[str, Any], tmp_path: Path) -> None:
    outcome = started(run, diverging, tmp_path, "--export", "false")
    assert (outcome.code, (tmp_path / "r" / "export").exists()) == (2, False)
    assert outcome.error.endswith(f"nothing was exported, as asked for; the run is in {tmp_path / 'r'}")


@pytest.mark.filterwarnings("ignore:optimizer step")
def test_weights_that_are_not_finite_are_not_exported(run: Run, diverging: dict[str, Any], tmp_path: Path) -> None:
    BreaksAfter.made = -1000
    diverging["model"]["class_path"] = f"{__name__}.BreaksWeights"
    outcome = started(run, diverging, tmp_path)
    assert outcome.code == 2
    assert outcome.error.endswith("the weights are not finite and were not exported, and no checkpoint has others")
    assert list(tmp_path.glob("r/checkpoints/*.ckpt"))
    assert not (tmp_path / "r" / "export").exists()
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["diverged_at_step"] == 2


def test_the_last_checkpoint_with_finite_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for number, value in enumerate((1.0, 2.0, math.inf)):
        path = tmp_path / "checkpoints" / f"{number}.ckpt"
        torch.save({"state_dict": {"network.weight": torch.tensor(value)}}, path)
        os.utime(path, (number, number))
    error = with_place(TrainingDivergedError("why", 7), tmp_path, None, finite=False)
    assert str(error).endswith(f"were not exported; the last that are stand in {tmp_path / 'checkpoints' / '1.ckpt'}")
    assert error.step == 7


def test_the_guard_of_a_recipe(run: Run, diverging: dict[str, Any], tmp_path: Path) -> None:
    BreaksAfter.made = -1000
    diverging["model"]["init_args"]["optimizer"]["init_args"]["lr"] = 3.0
    bounds = {"train/forget_loss": {"below": -6.0}}
    guard = {"class_path": "DivergenceGuard", "init_args": {"bounds": bounds, "every_n_steps": 1}}
    diverging["trainer"] |= {"callbacks": [guard], "max_epochs": 20}
    with pytest.warns(UserWarning, match="the run stops at optimizer step"):
        outcome = started(run, diverging, tmp_path)
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    step, kept = summary["diverged_at_step"], summary["divergence_guard/kept_step"]
    assert outcome.code == 2
    assert f"the run diverged at optimizer step {step}: train/forget_loss = -" in outcome.error
    assert f"is below -6; the model has the weights of step {kept}; the last good weights are in" in outcome.error
    assert 0 < kept < step == summary["optimizer_steps"] < 60
    assert torch.equal(exported(tmp_path), Keeps.seen[kept - 1])


@pytest.mark.filterwarnings("ignore:the run stops at optimizer step")
def test_a_run_that_was_stopped_is_not_resumed_as_one_that_ended_well(
    run: Run, diverging: dict[str, Any], tmp_path: Path
) -> None:
    BreaksAfter.made = -1000
    diverging["model"]["init_args"]["optimizer"]["init_args"]["lr"] = 3.0
    guard = {"class_path": "DivergenceGuard", "init_args": {"bounds": {"train/rows": {"times_start": 1.5}}}}
    diverging["trainer"] |= {"callbacks": [guard], "enable_checkpointing": True}
    first = started(run, diverging, tmp_path, "--export", "false")
    again = started(run, diverging, tmp_path, "--ckpt_path", "last")
    for outcome in (first, again):
        assert outcome.code == 2 and "train/rows = " in outcome.error
    assert first.error.split("; the model has")[0] == again.error.split("; the model has")[0]
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["divergence_guard/kept_step"] < summary["diverged_at_step"]
    assert "The run diverged at optimizer step" in (tmp_path / "r" / "export" / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:optimizer step")
def test_a_stage_that_diverged_is_not_taken_for_a_finished_one(
    run: Run, diverging: dict[str, Any], tmp_path: Path, model_folder: Path
) -> None:
    from soul_lightning.cli.stage_runner import Asking, StageRunner
    from soul_lightning.cli.stages import Stage

    runner = StageRunner({"data": diverging["data"]}, Asking(), tmp_path / "out", "tiny", 0, is_quiet=True)
    stage = Stage("ascent", diverging, None, False, ())
    for _ in range(2):
        BreaksAfter.made = 0
        with pytest.raises(TrainingDivergedError, match="the run diverged at optimizer step 2"):
            runner.model(stage, 0, {}, "some-hash", "ascent")
        assert "stage_hash" not in json.loads((tmp_path / "out" / "seed0" / "ascent" / "summary.json").read_text())
