"""What all measuring callbacks share: they fit any project, are due when they should be, and change nothing."""

from __future__ import annotations

import csv
import gc
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import soul_lightning.callbacks as callbacks_package
from soul_lightning.callbacks import (
    ForgetQuality,
    HuggingFaceExport,
    LogitAnalysis,
    MembershipInference,
    Memorization,
    ProbeCallback,
    Restoration,
    Toxicity,
    Utility,
)
from soul_lightning.callbacks.base import Metrics
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.objectives.gradient_ascent import GradientAscent
from soul_lightning.protocols import Probe
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

PROBES = [
    Probe("corrupted", "question", as_examples(FORGET), "corrupted", PLAIN),
    Probe("forget", "text", as_examples(FORGET), "forget", PLAIN),
    Probe("holdout", "text", as_examples(RETAIN), "holdout", PLAIN),
    Probe("retain", "text", as_examples(RETAIN), "retain", PLAIN),
    Probe("provocations", "prompt", as_examples(FORGET), "toxicity", PLAIN),
]


class ForeignModule(LightningModule):
    """Somebody's own module: automatic optimization, dropout, noise from all three random generators."""

    def __init__(self, network: LlamaForCausalLM, attribute: str = "model") -> None:
        super().__init__()
        setattr(self, attribute, network)
        self.attribute = attribute

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        noise = torch.rand(()) + np.random.rand() + random.random()
        loss: torch.Tensor = getattr(self, self.attribute)(input_ids=batch, labels=batch).loss
        return loss * noise

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        rows: Any = [torch.randint(4, 40, (6,), generator=generator) for _ in range(8)]
        return DataLoader(rows, batch_size=4, shuffle=True)


class Recorder(ProbeCallback):
    """Records when it measured."""

    def __init__(self, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "name": "recorder", "probes": PROBES, "network": None, "tokenizer": None, "every_n_epochs": 1,
            "every_n_steps": None, "before_training": True, "limit": None, "seed": 0,
        }  # fmt: skip
        super().__init__(**(defaults | settings))
        self.steps: list[int] = []

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is needed."""

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        self.steps.append(trainer.global_step)
        return {"steps": float(trainer.global_step), "nothing": None}


class Intrusive(Callback):
    """Does what a measurement must not do."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.rand(())


class Letters:
    """A toxicity scorer that draws random numbers on the side, as a library may."""

    name = "letters"

    def __call__(self, texts: Sequence[str]) -> list[float]:
        random.random(), np.random.rand(), torch.rand(1)
        return [min(1.0, len(text) / 100) for text in texts]


def every_callback(tokenizer: PreTrainedTokenizerFast, clean: str) -> list[Callback]:
    shared: dict[str, Any] = {"tokenizer": tokenizer, "probes": PROBES, "every_n_steps": 1}
    answering: dict[str, Any] = shared | {"max_new_tokens": 4}
    return [
        Restoration(models={"clean": clean}, **answering),
        MembershipInference(
            attacks=["loss", "zlib", "min_k", "min_k_plus_plus", "lowercase", "gradient_norm"],
            reference=clean,
            **shared,
        ),
        Utility(models={"clean": clean}, **answering),
        ForgetQuality(reference=clean, **answering),
        Memorization(**answering),
        Toxicity(scorer=Letters(), **answering),
        LogitAnalysis(**shared),
        HuggingFaceExport(tokenizer=tokenizer),
    ]


def final_weights(trainer: Trainer, module: LightningModule, datamodule: TinyDataModule | None = None) -> torch.Tensor:
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    trainer.fit(module, datamodule=datamodule)
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_training_is_bitwise_the_same_with_and_without_them_in_a_foreign_module(
    tokenizer: PreTrainedTokenizerFast, model_folder: Path, tmp_path: Path
) -> None:
    weights = []
    for callbacks in ([], every_callback(tokenizer, str(model_folder)), [Intrusive()]):
        module = ForeignModule(make_network(len(tokenizer), dropout=0.3))
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=callbacks, logger=CSVLogger(tmp_path))
        weights.append(final_weights(trainer, module))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])  # one number drawn on the side would have been noticed


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_is_bitwise_the_same_with_and_without_them_in_unlearning(
    tokenizer: PreTrainedTokenizerFast, model_folder: Path, tmp_path: Path, precision: str
) -> None:
    weights = []
    for callbacks in ([], every_callback(tokenizer, str(model_folder))):
        network = make_network(len(tokenizer), dropout=0.3)
        module = UnlearningModule(network, GradientAscent(), CrossEntropy(), tokenizer=tokenizer)
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=callbacks, precision=precision)
        weights.append(final_weights(trainer, module, TinyDataModule()))
    assert torch.equal(*weights)


def test_a_measurement_leaves_gradients_and_modes_as_they_are(
    tokenizer: PreTrainedTokenizerFast, model_folder: Path, tmp_path: Path
) -> None:
    network = make_network(len(tokenizer), dropout=0.3)
    module = ForeignModule(network)
    trainer = make_trainer(tmp_path, max_steps=1, callbacks=every_callback(tokenizer, str(model_folder)))
    trainer.fit(module)
    network.train()
    network.model.norm.eval()
    network(input_ids=torch.tensor([[4, 5, 6]]), labels=torch.tensor([[4, 5, 6]])).loss.backward()
    expected = [(parameter.clone(), parameter.grad) for parameter in network.parameters()]
    gradients = [gradient.clone() for _, gradient in expected if gradient is not None]
    modes = [part.training for part in network.modules()]
    measuring = [callback for callback in trainer.callbacks if isinstance(callback, ProbeCallback)]  # type: ignore[attr-defined]
    assert len(measuring) == 7
    for callback in measuring:
        callback.on_fit_start(trainer, module)
        assert callback.measure(trainer, module)
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(now, before) for now, (before, _) in zip(network.parameters(), expected, strict=True))
    after = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert len(after) == len(gradients) > 0
    assert all(torch.equal(now, before) for now, before in zip(after, gradients, strict=True))
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_model_that_has_diverged_ends_no_run(
    tokenizer: PreTrainedTokenizerFast, model_folder: Path, tmp_path: Path
) -> None:
    network = make_network(len(tokenizer))
    with torch.no_grad():
        network.lm_head.weight.fill_(torch.nan)
    callbacks = every_callback(tokenizer, str(model_folder))
    trainer = make_trainer(tmp_path, callbacks=callbacks)
    with pytest.warns(UserWarning, match="the model has diverged"):
        trainer.fit(ForeignModule(network))
    measuring = [callback for callback in callbacks if isinstance(callback, ProbeCallback)]
    measured = {name: value for callback in measuring for name, value in callback.metrics.items()}
    assert "membership/loss_auc" not in measured and "utility/retain_probability" not in measured
    assert measured["toxicity/fluency"] is not None
    assert (tmp_path / "rows" / "forget_quality_after.jsonl").is_file()


@pytest.mark.slow
def test_ten_epochs_leave_no_memory_behind(
    tokenizer: PreTrainedTokenizerFast, model_folder: Path, tmp_path: Path
) -> None:
    """Resident memory after ten measured epochs is what it was after four."""
    resident: list[int] = []

    class Resident(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE"))

    callbacks = [*every_callback(tokenizer, str(model_folder)), Resident()]
    trainer = make_trainer(tmp_path, max_epochs=10, callbacks=callbacks, logger=CSVLogger(tmp_path))
    trainer.fit(ForeignModule(make_network(len(tokenizer))))
    assert len(resident) == 10
    # A leaked copy of the tiny network, its statistics or its gradients would show; pages of the allocator may not.
    assert max(resident[4:]) - resident[3] < 4 * 2**20


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [0, 2, 4, 6]),
        ({"before_training": False}, [2, 4, 6]),
        ({"every_n_epochs": 2}, [0, 4, 6]),  # the final model is measured although its epoch is not due
        ({"every_n_epochs": 3, "every_n_steps": 5}, [0, 5, 6]),
        ({"every_n_steps": 2}, [0, 2, 4, 6]),  # once where both are due
    ],
)
def test_due_steps(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, settings: dict[str, Any], steps: list[int]
) -> None:
    recorder = Recorder(tokenizer=tokenizer, **settings)
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, max_epochs=3, callbacks=[recorder], logger=logger)
    trainer.fit(ForeignModule(make_network(len(tokenizer))))
    assert recorder.steps == steps
    with (Path(logger.log_dir) / "metrics.csv").open(newline="") as file:
        logged = [int(row["step"]) for row in csv.DictReader(file) if row["recorder/steps"]]
    assert logged == steps
    assert recorder.summary() == {"recorder/steps": 6.0, "recorder/nothing": None}
    assert "recorder/nothing" not in trainer.callback_metrics


def test_steps_are_optimizer_steps_under_accumulation(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    recorder = Recorder(tokenizer=tokenizer, every_n_steps=1)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[recorder], accumulate_grad_batches=2)
    trainer.fit(ForeignModule(make_network(len(tokenizer))))
    assert recorder.steps == [0, 1, 2]


@pytest.mark.parametrize("attribute", ["network", "model", "backbone"])
def test_the_model_is_found(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, attribute: str) -> None:
    module = ForeignModule(make_network(len(tokenizer)), attribute)
    recorder = Recorder(tokenizer=tokenizer, network="backbone" if attribute == "backbone" else None)
    make_trainer(tmp_path, callbacks=[recorder]).fit(module)
    assert recorder.steps


def test_a_datamodule_supplies_tokenizer_and_probes(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    recorder = Recorder(probes=None, limit=3)
    network = make_network(len(tokenizer))
    module = UnlearningModule(network, retain=CrossEntropy(), tokenizer=tokenizer)
    make_trainer(tmp_path, callbacks=[recorder]).fit(module, TinyDataModule())
    assert [len(probe.examples) for probe in recorder.probes] == [3, 3, 3, 2, 3]
    again = Recorder(probes=None, limit=3)
    make_trainer(tmp_path, callbacks=[again]).fit(module, TinyDataModule())
    assert again.probes == recorder.probes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no tokenizer: tried its own argument tokenizer"),
        ({"network": "lm"}, r"network \('lm'\), then ForeignModule.network and .model"),
        ({"probes": None, "tokenizer": "yes"}, "no probes: tried its own argument probes"),
    ],
)
def test_what_is_not_found_is_named(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    if "tokenizer" in settings:
        settings = settings | {"tokenizer": tokenizer}
    trainer = make_trainer(tmp_path, callbacks=[Recorder(**settings)])
    with pytest.raises(MisconfigurationError, match=message):
        trainer.fit(ForeignModule(make_network(len(tokenizer))))


@pytest.mark.parametrize("setting", ["every_n_epochs", "every_n_steps", "limit"])
def test_settings_out_of_range_are_refused(setting: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"Recorder: {setting} must be >= 1, got 0"):
        Recorder(**{setting: 0})
    with pytest.raises(MisconfigurationError, match="name"):
        Recorder(name="a/b")


def test_two_of_a_kind_fit_into_one_trainer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    pair: list[Callback] = [Recorder(tokenizer=tokenizer, name=name) for name in ("one", "two")]
    trainer = make_trainer(tmp_path, callbacks=pair)
    trainer.fit(ForeignModule(make_network(len(tokenizer))))
    assert {"one/steps", "two/steps"} <= set(trainer.callback_metrics)
    assert pair[0].state_key != pair[1].state_key


@pytest.mark.parametrize(
    "kind", [Restoration, MembershipInference, Utility, ForgetQuality, Memorization, LogitAnalysis, Toxicity]
)
def test_the_command_line_can_make_them(kind: type[ProbeCallback]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Callback, "callback")
    config = {"class_path": kind.__name__, "init_args": {"every_n_epochs": 2, "limit": 5, "name": "mine"}}
    if kind is Restoration:
        config["init_args"] |= {"models": {"clean": "folder"}, "judge": {"threshold": 0.8}}  # type: ignore[operator]
    if kind is Toxicity:
        config["init_args"] |= {"scorer": "profanity"}  # type: ignore[operator]
    made = parser.instantiate_classes(parser.parse_object({"callback": config})).callback
    assert isinstance(made, kind)
    assert (made.every_n_epochs, made.limit, made.name) == (2, 5, "mine")
    if isinstance(made, Restoration):
        assert made.models == {"clean": "folder"} and made.judge.threshold == 0.8


def test_the_package_exports_are_lazy_and_complete() -> None:
    for name in callbacks_package.__all__:
        assert isinstance(getattr(callbacks_package, name), type)
    with pytest.raises(AttributeError, match="Nothing"):
        callbacks_package.Nothing  # noqa: B018
