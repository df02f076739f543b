"""Every logger gets what it can take: TensorBoard, Weights & Biases (without a network), CSV, none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from soul_lightning.reports.loggers import (
    log_beside,
    log_figure,
    log_histogram,
    log_hyperparameters,
    log_layout,
    log_numbers,
    log_table,
    logged_names,
)
from tests.conftest import make_trainer


def log_everything(trainer: Trainer) -> None:
    log_numbers(trainer, {"utility/probability": 0.5, "utility/nothing": None})
    log_beside(trainer, "utility", {"retain-only": {"probability": 0.4, "nothing": None}, "empty": {}})
    figure = Figure(figsize=(2.0, 1.5))
    figure.subplots().plot([0, 1])
    log_figure(trainer, "run/way", figure)
    log_histogram(trainer, "membership/loss_members", [1.0, 2.0, float("inf"), float("nan")])
    log_table(trainer, "answers", ["question", "after"], [["who |\nis", "ada"]])
    log_layout(trainer, {"Utility": {"probability": ("Multiline", ["^utility/probability$"])}})
    log_hyperparameters(trainer, {"optimizer": "Sophia", "rho": 0.04}, {"model utility": 0.9})
    for logger in trainer.loggers:
        logger.save()


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0, "histograms": 0})
    found.Reload()
    return found


def test_tensorboard_takes_all_of_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, logger=TensorBoardLogger(tmp_path, name="", version="run"))
    log_everything(trainer)
    run = events(tmp_path / "run")
    assert run.Tags()["scalars"] == ["utility/probability"]
    (image,) = run.Images("run/way")
    assert (image.width, image.height) == (200, 150)
    assert run.Histograms("membership/loss_members")[0].histogram_value.num == 2
    (text,) = run.Tensors("answers/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert shown == "| question | after |\n| --- | --- |\n| who \\| is | ada |"
    assert len(run.Tensors("custom_scalars__config__")) == 1
    beside, final = events(tmp_path / "run" / "retain-only"), events(tmp_path / "run" / "final")
    assert [event.value for event in beside.Scalars("utility/probability")] == pytest.approx([0.4])
    assert [event.value for event in final.Scalars("final/model utility")] == pytest.approx([0.9])
    assert set(final.PluginTagToContent("hparams")) == {
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }


def test_csv_takes_numbers_and_hyperparameters(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, logger=CSVLogger(tmp_path, name="", version="run"))
    log_everything(trainer)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        logged = {name: value for row in csv.DictReader(file) for name, value in row.items() if value}
    assert logged == {
        "step": "0", "utility/probability": "0.5", "utility/retain-only/probability": "0.4",
        "final/model utility": "0.9",
    }  # fmt: skip
    assert yaml.safe_load((tmp_path / "run" / "hparams.yaml").read_text()) == {"optimizer": "Sophia", "rho": 0.04}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"metrics.csv", "hparams.yaml"}


def test_weights_and_biases_takes_all_but_the_layout(wandb_offline: None, tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path)
    log_everything(make_trainer(tmp_path, logger=logger))
    run = logger.experiment
    logged = {name: run.summary[name] for name in run.summary.keys() if not name.startswith("_")}
    assert set(logged) == {
        "utility/probability", "utility/retain-only/probability", "run/way", "membership/loss_members", "answers",
        "final/model utility", "trainer/global_step",
    }  # fmt: skip
    assert logged["utility/retain-only/probability"] == 0.4 and logged["final/model utility"] == 0.9
    assert logged["membership/loss_members"]["bins"][0] == 1 and logged["membership/loss_members"]["bins"][-1] == 2
    assert sum(logged["membership/loss_members"]["values"]) == 2
    assert dict(run.config) == {"optimizer": "Sophia", "rho": 0.04}
    run.finish()
    (media,) = tmp_path.glob("wandb/offline-run-*/files/media")
    (picture,) = media.glob("images/run/way_*.png")
    pixels = imread(picture)
    assert pixels.shape[:2] == (150, 200) and pixels.min() < 0.5 < pixels.max()
    (table,) = media.glob("table/answers_*.json")
    assert json.loads(table.read_text()) == {"columns": ["question", "after"], "data": [["who |\nis", "ada"]]}


def test_without_a_logger_nothing_is_written_and_names_are_known(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    log_everything(trainer)
    assert list(tmp_path.iterdir()) == []
    assert logged_names(trainer) == ["utility/probability"]


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, logger=TensorBoardLogger(tmp_path, name="", version="run"))
    monkeypatch.setattr(type(trainer), "is_global_zero", False)
    log_beside(trainer, "utility", {"retain-only": {"probability": 0.4}})
    log_histogram(trainer, "membership/loss_members", [1.0])
    log_table(trainer, "answers", ["question"], [["who"]])
    log_hyperparameters(trainer, {"rho": 0.04}, {"model utility": 0.9})
    assert not (tmp_path / "run").exists()
