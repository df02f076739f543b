"""What a run's checkpoint keeps beside what Lightning keeps, and how long it stays."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from soul_lightning.cli.run_checkpoint import RUN_KEY
from tests.cli.conftest import Interrupt, Run, write_yaml
from tests.faults.left import differences, summary_of


def test_a_run_that_stopped_early_stops_again(
    run: Run, config: dict[str, Any], recipe: Path, interrupted: Interrupt
) -> None:
    stopping = {"monitor": "train/loss", "stopping_threshold": 1e9, "check_on_train_epoch_end": True}
    config["trainer"]["callbacks"] = [{"class_path": "EarlyStopping", "init_args": stopping}]
    write_yaml(recipe, config)
    assert interrupted(signal.SIGTERM, step=3).code == 143
    assert run("fit", "--config", "run/config.yaml", "--ckpt_path", "last").code == 0
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "whole").code == 0
    assert json.loads(Path("run/summary.json").read_text())["optimizer_steps"] == 3
    assert differences(summary_of(Path("run")), summary_of(Path("whole"))) == []


def test_it_keeps_plain_values_and_tensors(run: Run, interrupted: Interrupt) -> None:
    assert interrupted(signal.SIGTERM, step=4).code == 143
    stored = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    own = stored[RUN_KEY]
    assert own["recipe"]["model"]["init_args"]["forget"]["init_args"]["beta"] == 0.1
    assert set(own["data"]) == {"stream/forget", "stream/retain"}
    assert {"train/loss", "curvature/norm"} <= set(own["logged"])
    assert own["untold"]["train/loss"] == float(own["logged"]["train/loss"])


def test_checkpoints_of_others_stay(run: Run, config: dict[str, Any], recipe: Path) -> None:
    settings = {"filename": "mine", "every_n_epochs": 1}
    config["trainer"]["callbacks"] = [{"class_path": ModelCheckpoint.__name__, "init_args": settings}]
    outcome = run("fit", "--config", write_yaml(recipe, config), "--trainer.default_root_dir", "run")
    assert outcome.code == 0, outcome.err
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["mine.ckpt"]
