"""What the callbacks of one number a row share: other models, rows files, when they measure, and one table."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import (
    ForgetQuality,
    LogitAnalysis,
    MembershipInference,
    Memorization,
    ScoringCallback,
    Utility,
)
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Probe
from soul_lightning.scoring.measured_rows import read_measured
from tests.callbacks.test_base import ForeignModule, Recorder
from tests.callbacks.tiny_models import (
    FORGET_PROBE,
    PROBES,
    RETAIN_PROBE,
    KeepsFirstEpoch,
    measured_rows,
    memorization,
    unlearning,
)
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer


class WithValidation(ForeignModule):
    """Somebody's module with a validation loop and a test loop of its own."""

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def val_dataloader(self) -> DataLoader[torch.Tensor]:
        return self.train_dataloader()

    def test_dataloader(self) -> DataLoader[torch.Tensor]:
        return self.train_dataloader()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": "csv"}, "rows must be jsonl, parquet or null, got 'csv'"),
        ({"token_budget": 0}, "token_budget must be >= 1 and max_tokens >= 2, got 0 and 512"),
        ({"max_tokens": 1}, "token_budget must be >= 1 and max_tokens >= 2, got 2048 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"Memorization: {message}"):
        memorization(**settings)


def test_two_probes_of_one_name_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    probes = [FORGET_PROBE, replace(FORGET_PROBE, examples=as_examples(RETAIN))]
    trainer = make_trainer(tmp_path, callbacks=[memorization(probes=probes)])
    with pytest.raises(MisconfigurationError, match="Memorization found two probes called 'forget'"):
        trainer.fit(unlearning(tokenizer), TinyDataModule())


def test_every_so_many_steps(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    callback = memorization(every_n_steps=2, tokenizer=tokenizer)
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, max_epochs=3, max_steps=5, callbacks=[callback], logger=logger)
    trainer.fit(ForeignModule(make_network(len(tokenizer))))
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        logged = {int(row["step"]): float(row["memorization/probability"]) for row in csv.DictReader(file)
                  if row["memorization/probability"]}  # fmt: skip
    assert list(logged) == [0, 2, 4, 5]
    assert len(set(logged.values())) == 4
    assert logged[5] == pytest.approx(callback.summary()["memorization/probability"])
    assert logged[0] == pytest.approx(callback.summary()["memorization/before/probability"])


def test_nothing_is_measured_before_training_where_that_is_off(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Not after a batch either that only accumulates gradients."""
    recorder = Recorder(tokenizer=tokenizer, every_n_steps=1, before_training=False)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[recorder], accumulate_grad_batches=2)
    trainer.fit(ForeignModule(make_network(len(tokenizer))))
    assert recorder.steps == [1, 2]


def test_the_validation_loop_of_a_fit_measures_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    steps = []
    for module in (ForeignModule, WithValidation):
        recorder = Recorder(tokenizer=tokenizer)
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[recorder], val_check_interval=1)
        trainer.fit(module(make_network(len(tokenizer))))
        steps.append(recorder.steps)
    assert "val/loss" in trainer.callback_metrics
    assert steps[0] == steps[1] == [0, 2, 4]


def test_validate_alone(
    retain_only: LlamaForCausalLM, reference: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """In anybody's module, whose own metrics stand beside; nothing was trained before."""
    callback = memorization(tokenizer=tokenizer, models={"retain-only": reference})
    trainer = make_trainer(tmp_path, callbacks=[callback], logger=CSVLogger(tmp_path, name="csv"))
    (metrics,) = trainer.validate(WithValidation(retain_only), verbose=False)
    assert {"val/loss", "memorization/probability"} <= set(metrics)
    summary = callback.summary()
    assert metrics["memorization/probability"] == pytest.approx(summary["memorization/probability"])
    assert summary["memorization/retain-only/probability"] == pytest.approx(summary["memorization/probability"])
    assert not any(name.startswith("memorization/before") for name in summary)
    files = {path.name for path in (Path(str(trainer.log_dir)) / "rows").iterdir()}
    assert files == {"memorization_model.jsonl", "memorization_retain-only.jsonl"}


def test_test_takes_every_example(
    retain_only: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback, whole = memorization(tokenizer=tokenizer, limit=2), memorization(tokenizer=tokenizer, name="whole")
    trainer = make_trainer(tmp_path, callbacks=[callback, whole])
    module = WithValidation(retain_only)
    trainer.fit(module)
    assert {model: len(rows) for model, rows in callback.measured.items()} == {"before": 2, "after": 2}
    (limited,) = trainer.validate(module, verbose=False)
    assert len(callback.measured["model"]) == 2
    assert limited["memorization/probability"] != pytest.approx(limited["whole/probability"])
    (final,) = trainer.test(module, verbose=False)
    assert len(callback.measured["model"]) == len(FORGET)
    assert final["memorization/probability"] == pytest.approx(final["whole/probability"])
    assert "before" not in callback.measured


@pytest.mark.parametrize("rows", ["jsonl", "parquet", None])
def test_one_row_an_example_is_written(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, rows: Literal["jsonl", "parquet"] | None
) -> None:
    callback = memorization(rows=rows)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[callback])
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    if rows is None:
        assert not (tmp_path / "rows").exists()
        return
    files = {model: tmp_path / "rows" / f"memorization_{model}.{rows}" for model in ("before", "after")}
    assert {path.name for path in (tmp_path / "rows").iterdir()} == {path.name for path in files.values()}
    for model, file in files.items():
        written = read_measured(file)
        assert written == callback.measured[model]
        assert [(row.probe, row.role, row.index, row.subject) for row in written] == [
            ("forget", "forget", example.index, example.subject) for example in FORGET_PROBE.examples
        ]
    if rows == "jsonl":
        assert {json.loads(line)["model"] for line in files["after"].read_text().splitlines()} == {"after"}


class RestoresLate(SingleDeviceStrategy):
    """As the strategies do that split weights: a checkpoint is read after `on_fit_start`."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


def resume(
    tokenizer: PreTrainedTokenizerFast, folder: Path, checkpoint: Path, *callbacks: ScoringCallback, **settings: Any
) -> None:
    trainer = make_trainer(folder, max_epochs=2, callbacks=list(callbacks), **settings)
    trainer.fit(unlearning(tokenizer, seed=7), TinyDataModule(), ckpt_path=checkpoint)


@pytest.mark.parametrize("late", [False, True])
def test_rows_before_training_survive_a_checkpoint(
    retain_only: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, late: bool
) -> None:
    file = measured_rows(retain_only, tokenizer, tmp_path / "earlier")
    checkpoint = tmp_path / "one.ckpt"
    straight, resumed = (memorization(models={"retain-only": file}) for _ in range(2))
    trainer = make_trainer(tmp_path / "straight", max_epochs=2, callbacks=[straight, KeepsFirstEpoch(checkpoint)])
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    settings: dict[str, Any] = {"strategy": RestoresLate(device="cpu")} if late else {}
    resume(tokenizer, tmp_path / "resumed", checkpoint, resumed, **settings)
    assert resumed.summary() == pytest.approx(straight.summary())
    assert resumed.measured["before"] == straight.measured["before"]
    files = [tmp_path / run / "rows" / "memorization_before.jsonl" for run in ("straight", "resumed")]
    assert files[0].read_text() == files[1].read_text()


def test_a_checkpoint_with_rows_of_something_else_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "one.ckpt"
    trainer = make_trainer(tmp_path, callbacks=[memorization(), KeepsFirstEpoch(checkpoint)])
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    with pytest.raises(MisconfigurationError, match=r"Memorization: the checkpoint has the hash .* probe 'forget'"):
        resume(tokenizer, tmp_path, checkpoint, memorization(limit=2))


def test_a_checkpoint_without_rows_leaves_nothing_to_compare_with(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "one.ckpt"
    make_trainer(tmp_path, callbacks=[KeepsFirstEpoch(checkpoint)]).fit(unlearning(tokenizer), TinyDataModule())
    callback = memorization()
    with pytest.warns(UserWarning, match="Memorization: the checkpoint at step 2 holds no rows"):
        resume(tokenizer, tmp_path, checkpoint, callback)
    assert set(callback.measured) == {"after"}


def test_a_callback_begins_anew_with_another_fit(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """With other rows, and with a model of its own before training."""
    callback = memorization()
    found = []
    for seed, callback.limit in ((0, None), (1, 3)):
        make_trainer(tmp_path, callbacks=[callback]).fit(unlearning(tokenizer, seed), TinyDataModule())
        found.append(callback.measured["before"])
    assert [len(rows) for rows in found] == [6, 3]
    assert found[0][0].values != found[1][0].values


def test_model_checkpoint_and_early_stopping_can_monitor(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Ascent makes the forget rows less likely at every epoch."""
    callback = memorization(before_training=False)
    best = ModelCheckpoint(tmp_path, monitor="memorization/probability", mode="min", save_top_k=1)
    stopping = EarlyStopping("memorization/probability", mode="max", patience=2)
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(
        tmp_path, max_epochs=8, callbacks=[callback, stopping, best], logger=logger, enable_checkpointing=True
    )
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        levels = [float(row["memorization/probability"]) for row in csv.DictReader(file)
                  if row["memorization/probability"]]  # fmt: skip
    assert len(levels) == 3 and levels == sorted(levels, reverse=True)  # the first, and patience with two worse ones
    assert best.best_model_score == pytest.approx(min(levels))
    assert Path(best.best_model_path).is_file()


def test_two_of_a_kind_stand_beside_one_another(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    first, second = memorization(name="six"), memorization(name="two", limit=2)
    trainer = make_trainer(tmp_path, callbacks=[first, second])
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    metrics = trainer.callback_metrics
    assert metrics["six/probability"] != metrics["two/probability"]
    lengths = {path.name: len(read_measured(path)) for path in (tmp_path / "rows").iterdir()}
    assert lengths == {f"{name}_{model}.jsonl": rows
                       for name, rows in (("six", 6), ("two", 2)) for model in ("before", "after")}  # fmt: skip


def test_two_callbacks_of_one_name_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    callbacks = [memorization(name="mine"), Utility(name="mine", probes=[RETAIN_PROBE])]
    trainer = make_trainer(tmp_path, callbacks=callbacks)
    with pytest.raises(MisconfigurationError, match="Memorization and Utility are both called 'mine'"):
        trainer.fit(unlearning(tokenizer), TinyDataModule())


def every_kind(reference: str, tokenizer: PreTrainedTokenizerFast) -> list[ScoringCallback]:
    shared: dict[str, Any] = {"probes": PROBES, "tokenizer": tokenizer, "models": {"retain-only": reference}}
    asked = Probe("corrupted", "question", as_examples(FORGET), "corrupted", PLAIN)
    return [
        ForgetQuality(max_new_tokens=4, **shared),
        MembershipInference(attacks=["loss", "min_k_plus_plus", "gradient_norm"], **shared),
        Memorization(max_new_tokens=4, **shared),
        Utility(max_new_tokens=4, **shared),
        LogitAnalysis(**(shared | {"probes": [asked]})),
    ]


@pytest.mark.parametrize("run", ["fit", "validate", "test"])
def test_one_table_is_printed_by_the_last(
    retain_only: LlamaForCausalLM,
    reference: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    run: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    callbacks = every_kind(reference, tokenizer)
    trainer = make_trainer(tmp_path, callbacks=list(callbacks))
    settings: dict[str, Any] = {} if run == "fit" else {"verbose": False}
    getattr(trainer, run)(WithValidation(make_network(len(tokenizer))), **settings)
    printed = capsys.readouterr().out
    assert printed.count("Evaluation") == 1
    assert max(map(len, printed.splitlines())) <= 80
    lines = [[cell.strip() for cell in line.strip("│┃").split("│" if "│" in line else "┃")] for line in
             printed.splitlines() if line.startswith(("│", "┃"))]  # fmt: skip
    assert lines[0] == ["metric", "retain-only", *(["before", "after"] if run == "fit" else ["model"])]
    cells = {line[0]: line[1:] for line in lines[1:] if line[0]}
    for callback in callbacks:
        assert callback.name in cells
        for name, value in callback.metrics.items():
            metric = name.split("/")[1]
            hidden = metric.endswith(("_relative", "_low", "_high"))
            assert (metric in cells) == (value is not None and not hidden)
    probability = callbacks[2].summary()["memorization/probability"]
    assert probability is not None
    assert float(cells["probability"][-1]) == pytest.approx(probability, rel=1e-2)
    assert cells["forget_quality"][0] == "–"  # the reference is not compared with itself


def test_who_does_not_report_stands_in_no_table(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, silent = memorization(name="one"), memorization(name="two"), memorization(name="silent", report=False)
    trainer = make_trainer(tmp_path, callbacks=[one, two, silent])
    trainer.validate(unlearning(tokenizer), TinyDataModule(), verbose=False)
    printed = capsys.readouterr().out
    assert printed.count("Evaluation") == 1
    assert "one" in printed and "two" in printed and "silent" not in printed
    trainer = make_trainer(tmp_path, callbacks=[silent])
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    assert "Evaluation" not in capsys.readouterr().out
    assert silent.summary()["silent/probability"] is not None
