"""Every logger gets what it can take: TensorBoard, Weights & Biases (a stand-in for its library), CSV, none."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
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


class Run(SimpleNamespace):
    """What `wandb.init` gives: remembers what it is told."""

    def __init__(self) -> None:
        values: dict[str, Any] = {}
        config = SimpleNamespace(values=values, update=lambda more, **_: values.update(more))
        super().__init__(logged={}, steps=set(), config=config, summary={})

    def log(self, values: Mapping[str, Any]) -> None:
        self.steps.add(values["trainer/global_step"])
        self.logged.update({name: value for name, value in values.items() if name != "trainer/global_step"})

    def define_metric(self, *_: Any, **__: Any) -> None:
        """Which axis a number has."""


@pytest.fixture
def wandb_run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Lightning's own `WandbLogger` on a library that is not installed."""
    run = Run()
    stand_ins: dict[str, dict[str, Any]] = {
        "wandb": {
            "run": run,
            "Image": lambda pixels: ("image", pixels),
            "Histogram": lambda values: ("histogram", values),
            "Table": lambda columns, data, dataframe: ("table", columns, data),
        },
        "wandb.sdk": {},
        "wandb.sdk.lib": {"RunDisabled": Run},
        "wandb.wandb_run": {"Run": Run},
    }
    for module, contents in stand_ins.items():
        library = ModuleType(module)
        vars(library).update(contents)
        monkeypatch.setitem(sys.modules, module, library)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return run


def test_weights_and_biases_takes_all_but_the_layout(wandb_run: Run, tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, experiment=wandb_run)
    log_everything(make_trainer(tmp_path, logger=logger))
    logged = wandb_run.logged
    assert set(logged) == {
        "utility/probability", "utility/retain-only/probability", "run/way", "membership/loss_members", "answers",
        "final/model utility",
    }  # fmt: skip
    assert logged["final/model utility"] == 0.9 and wandb_run.steps == {0}
    ((kind, pixels),) = logged["run/way"]
    assert kind == "image" and pixels.shape == (150, 200, 3) and pixels.dtype == np.uint8
    assert pixels.min() < 128 < pixels.max()
    assert logged["membership/loss_members"][0] == "histogram"
    assert logged["membership/loss_members"][1].tolist() == [1.0, 2.0]
    assert logged["answers"] == ("table", ["question", "after"], [["who |\nis", "ada"]])
    assert wandb_run.config.values == {"optimizer": "Sophia", "rho": 0.04}


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
