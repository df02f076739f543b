"""A run in one place: its charts, the numbers that it ends with, the way that it took."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data
from transformers import PreTrainedTokenizerFast

from soul_lightning.callbacks import Dashboard, MembershipInference, Memorization, Restoration, Utility
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.objectives.npo import NPO
from soul_lightning.optim.curvature import GaussNewtonBartlett
from soul_lightning.optim.sophia import Sophia
from tests.callbacks.test_base import PROBES, ForeignModule
from tests.conftest import TinyDataModule, make_network, make_trainer


def second_order(tokenizer: PreTrainedTokenizerFast) -> UnlearningModule:
    return UnlearningModule(
        make_network(len(tokenizer)),
        forget=NPO(beta=0.2),
        retain=CrossEntropy(),
        retain_weight=2.0,
        optimizer=lambda parameters: Sophia(parameters, lr=1e-3, rho=0.1),
        curvature=GaussNewtonBartlett(interval_steps=2),
        tokenizer=tokenizer,
    )


def measuring() -> list[Callback]:
    return [
        Restoration(max_new_tokens=3, reports=False),
        MembershipInference(attacks=("loss", "zlib"), report=False),
        Utility(answer=False, report=False),
    ]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def lines(run: EventAccumulator) -> dict[str, set[str]]:
    """The names that the charts of each section draw, as TensorBoard reads the last layout."""
    layout = Layout()
    layout.ParseFromString(run.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0])
    found: dict[str, set[str]] = {}
    for section in layout.category:
        of_lines = {tag for chart in section.chart for tag in chart.multiline.tag}
        of_margins = {
            name for chart in section.chart for s in chart.margin.series for name in (s.value, s.lower, s.upper)
        }
        found[section.title] = {tag.strip("^$") for tag in of_lines} | of_margins
    return found


def test_a_run_has_its_charts_figures_and_last_numbers(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    trainer = make_trainer(
        tmp_path, max_epochs=2, callbacks=[*measuring(), Dashboard()], logger=logger, log_every_n_steps=1
    )
    trainer.fit(second_order(tokenizer), TinyDataModule(batch_size=3))
    run, final = events(tmp_path / "run"), events(tmp_path / "run" / "final")
    drawn = lines(run)
    assert set().union(*drawn.values()) <= set(run.Tags()["scalars"])
    assert drawn["Forget against retain"] == {
        "train/forget_loss", "train/retain_loss", "restoration/false_share", "restoration/accuracy_control",
    }  # fmt: skip
    assert drawn["Restoration"] == {
        "restoration/accuracy_corrupted_people"
    }  # without a clean model nothing is restored
    assert {"membership/loss_auc", "membership/loss_auc_low", "membership/zlib_auc"} <= drawn["Privacy"]
    assert drawn["Utility"] == {"utility/retain_probability"}
    assert "curvature/win_rate" in drawn["Curvature"]
    assert [event.step for event in run.Images("run/trade_off")] == [4]
    assert [event.step for event in run.Images("run/win_rate")] == [4]

    ends = {name: final.Scalars(name)[-1].value for name in final.Tags()["scalars"]}
    assert set(ends) == {
        "final/true answers", "final/false answers", "final/control answers", "final/membership AUC",
        "final/retain probability",
    }  # fmt: skip
    assert ends["final/membership AUC"] == run.Scalars("membership/loss_auc")[-1].value
    started = parse_session_start_info_plugin_data(final.PluginTagToContent("hparams")[SESSION_START_INFO_TAG])
    values = {name: value.string_value or value.number_value for name, value in started.hparams.items()}
    assert values.items() >= {
        "forget objective": "NPO", "forget beta": 0.2, "retain objective": "CrossEntropy", "retain weight": 2.0,
        "optimizer": "Sophia", "learning rate": 1e-3, "rho": 0.1, "curvature": "GaussNewtonBartlett",
        "curvature interval": 2.0, "batch size": 3.0, "epochs": 2.0,
    }.items()  # fmt: skip


def test_the_layout_is_there_from_the_first_step(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}

    class Looker(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 1:
                trainer.logger.experiment.flush()
                seen.update(lines(events(tmp_path / "run")))

    logger = TensorBoardLogger(tmp_path, name="", version="run")
    trainer = make_trainer(
        tmp_path, callbacks=[*measuring(), Dashboard(), Looker()], logger=logger, log_every_n_steps=1
    )
    trainer.fit(second_order(tokenizer), TinyDataModule(batch_size=3))
    assert {"Forget against retain", "Restoration", "Privacy", "Utility"} <= set(seen)


def test_a_resumed_run_draws_its_whole_way(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def run(epochs: int, **settings: Any) -> dict[str, dict[int, float]]:
        dashboard = Dashboard()
        trainer = make_trainer(tmp_path, max_epochs=epochs, callbacks=[*measuring(), dashboard])
        trainer.fit(second_order(tokenizer), TinyDataModule(batch_size=3), **settings)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return dashboard.history

    run(1)
    resumed = run(2, ckpt_path=tmp_path / "last.ckpt")
    assert sorted(resumed["restoration/false_share"]) == [0, 2, 4]
    assert sorted(resumed["optimizer 0"]) == [1, 2, 3, 4]
    assert resumed["membership/loss_auc"] == pytest.approx(run(2)["membership/loss_auc"])


def test_a_long_run_keeps_a_thousand_points_at_most() -> None:
    dashboard = Dashboard()
    for step in range(2500):
        dashboard._add("optimizer 0", step, float(step))
    points = dashboard.history["optimizer 0"]
    assert 500 <= len(points) <= 1000 and all(points[step] == step for step in points)
    assert min(points) == 0 and max(points) == 2499


def test_it_drops_into_a_foreign_project_and_changes_nothing(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    weights = []
    for callbacks in ([], [Dashboard()], [Memorization(probes=PROBES, tokenizer=tokenizer, answer=False), Dashboard()]):
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        module = ForeignModule(make_network(len(tokenizer), dropout=0.2))
        trainer = make_trainer(
            tmp_path, max_epochs=2, callbacks=callbacks, logger=CSVLogger(tmp_path, name="", version="run")
        )
        trainer.fit(module)
        weights.append(torch.cat([weight.detach().flatten() for weight in module.parameters()]))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        last = {name: value for row in csv.DictReader(file) for name, value in row.items() if value}
    assert float(last["final/forget probability"]) == float(last["memorization/probability"])
    hyperparameters = (tmp_path / "run" / "hparams.yaml").read_text()
    assert "optimizer: AdamW" in hyperparameters and "learning rate: 0.01" in hyperparameters
    assert "batch size: 4" in hyperparameters
