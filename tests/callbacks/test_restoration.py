"""The Restoration callback in whole fits."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import Restoration
from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.networks.forward import label_predictions
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.objectives.gradient_ascent import GradientAscent
from soul_lightning.protocols import SuppliesSummary
from soul_lightning.scoring.answers import read_rows
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer


@pytest.fixture
def clean_folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model that knows every fact."""
    network = make_network(len(tokenizer), seed=5)
    batch = collate(encode(as_examples(FORGET + RETAIN), tokenizer, PLAIN), 0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -label_predictions(network, batch).log_probs.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path / "clean"
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def module(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> UnlearningModule:
    return UnlearningModule(network, GradientAscent(), CrossEntropy(), forget_weight=0.1, tokenizer=tokenizer)


def test_a_fit_leaves_metrics_rows_table_and_figure(
    tiny_network: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    clean_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    callback = Restoration(models={"clean": str(clean_folder), "retain-only": str(clean_folder)}, max_new_tokens=4)
    logger = TensorBoardLogger(tmp_path / "run", name="", version="")
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[callback], logger=logger)
    trainer.fit(module(tiny_network, tokenizer), TinyDataModule())

    summary = callback.summary()
    assert isinstance(callback, SuppliesSummary)
    assert summary["restoration/clean/accuracy_corrupted_people"] == 1.0
    assert summary["restoration/corrupted/accuracy_corrupted_people"] == 0.0
    assert summary["restoration/restoration"] == summary["restoration/accuracy_corrupted_people"]
    assert summary["restoration/restoration_minus_retain-only"] is not None
    assert trainer.callback_metrics["restoration/accuracy_control"] == summary["restoration/accuracy_control"]

    run = Path(str(trainer.log_dir))
    names = {path.name for path in (run / "rows").iterdir()}
    models = ("clean", "corrupted", "retain-only", "unlearned")
    assert names == {f"restoration_{model}.jsonl" for model in models} | {"restoration.csv"}
    unlearned = read_rows(run / "rows" / "restoration_unlearned.jsonl")
    control = [row for row in unlearned if row.role == "control"]
    assert summary["restoration/accuracy_control"] == sum(row.true for row in control) / len(control)
    assert (run / "restoration.png").is_file()
    with (run / "rows" / "restoration.csv").open(newline="") as file:
        assert [record["model"] for record in csv.DictReader(file)] == list(models)
    printed = capsys.readouterr().out
    assert all(model in printed for model in models) and "unlearned minus retain-only" in printed

    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    steps = [event.step for event in events.Scalars("restoration/accuracy_control")]
    assert steps == [0, 2, 4]  # before training and after each epoch, in optimizer steps
    for model in ("clean", "corrupted", "retain-only"):  # runs of their own: level lines beside the curve
        beside = EventAccumulator(str(run / model), size_guidance={"scalars": 0})
        beside.Reload()
        assert [event.step for event in beside.Scalars("restoration/false_share")] == [0, 4]
    assert set(events.Tags()["images"]) == {"restoration/by_model", "restoration/by_relation"}
    assert "restoration/answers/text_summary" in events.Tags()["tensors"]


def test_a_rows_file_stands_for_its_model(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, clean_folder: Path, tmp_path: Path
) -> None:
    first = Restoration(models={"clean": str(clean_folder)}, max_new_tokens=4)
    trainer = make_trainer(tmp_path / "first", callbacks=[first])
    trainer.fit(module(tiny_network, tokenizer), TinyDataModule())
    rows = tmp_path / "first" / "rows"
    files = {"clean": "restoration_clean", "corrupted": "restoration_corrupted", "retain-only": "restoration_unlearned"}
    second = Restoration(models={model: str(rows / f"{name}.jsonl") for model, name in files.items()}, max_new_tokens=4)
    trainer = make_trainer(tmp_path / "second", callbacks=[second])
    trainer.fit(module(make_network(len(tokenizer)), tokenizer), TinyDataModule())
    assert second.comparison is not None and first.comparison is not None
    assert second.comparison.scores["clean"] == first.comparison.scores["clean"]
    assert second.comparison.differences["unlearned"].false_share.value == 0  # the same run again

    limited = Restoration(models={"clean": str(rows / "restoration_clean.jsonl")}, limit=2)
    with pytest.raises(MisconfigurationError, match="other questions"):
        make_trainer(tmp_path, callbacks=[limited]).fit(
            module(make_network(len(tokenizer)), tokenizer), TinyDataModule()
        )


def test_without_a_clean_model_a_sentence_says_why(
    tiny_network: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    callback = Restoration(max_new_tokens=2, limit=3)
    trainer = make_trainer(tmp_path, callbacks=[callback], logger=CSVLogger(tmp_path))
    trainer.fit(module(tiny_network, tokenizer), TinyDataModule())
    assert callback.summary()["restoration/restoration"] is None
    assert "restoration/restoration" not in trainer.callback_metrics
    assert "no clean model was given" in capsys.readouterr().out
    assert callback.comparison is not None and callback.comparison.facts == 3


def test_checkpoints_and_early_stopping_can_watch_it(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(
        tmp_path / "kept", "{step}", "restoration/accuracy_control", mode="max", save_on_train_epoch_end=True
    )
    stopping = EarlyStopping("restoration/false_share", patience=1, mode="max", check_on_train_epoch_end=True)
    callbacks = [Restoration(max_new_tokens=2, reports=False), stopping, checkpoint]
    trainer = make_trainer(tmp_path, max_epochs=4, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(module(tiny_network, tokenizer), TinyDataModule())
    assert checkpoint.best_model_path
    assert checkpoint.best_model_score is not None
    assert stopping.stopped_epoch in (0, 1, 2, 3)
    assert not (tmp_path / "rows").exists()


def test_a_resumed_run_keeps_the_answers_from_before_training(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first = Restoration(max_new_tokens=3, reports=False)
    trainer = make_trainer(tmp_path, max_epochs=1, callbacks=[first])
    trainer.fit(module(tiny_network, tokenizer), TinyDataModule())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    second = Restoration(max_new_tokens=3, reports=False)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[second])
    trainer.fit(module(make_network(len(tokenizer), 9), tokenizer), TinyDataModule(), ckpt_path=tmp_path / "run.ckpt")
    assert first.comparison is not None and second.comparison is not None
    assert second.comparison.scores["corrupted"] == first.comparison.scores["corrupted"]
    assert json.dumps(second.state_dict()["before"]) == json.dumps(first.state_dict()["before"])

    late = Restoration(max_new_tokens=3, reports=False, name="late")
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[late])
    with pytest.raises(MisconfigurationError, match=r"models\.corrupted"):
        trainer.fit(
            module(make_network(len(tokenizer), 9), tokenizer), TinyDataModule(), ckpt_path=tmp_path / "run.ckpt"
        )


def test_what_is_wrong_is_said_before_training(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match="'unlearned'"):
        Restoration(models={"unlearned": "x"})
    with pytest.raises(MisconfigurationError, match="a/b"):
        Restoration(models={"a/b": "x"})
    with pytest.raises(MisconfigurationError, match="max_new_tokens"):
        Restoration(max_new_tokens=0)
    for callback, message in (
        (Restoration(models={"clean": str(tmp_path / "none")}), "does not exist"),
        (Restoration(probes=[]), "kind question and role corrupted"),
    ):
        with pytest.raises(MisconfigurationError, match=message):
            make_trainer(tmp_path, callbacks=[callback]).fit(module(tiny_network, tokenizer), TinyDataModule())
