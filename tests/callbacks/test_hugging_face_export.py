"""Exports out of any project load as ordinary Hugging Face folders, are whole, and change nothing in training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning import UnlearningModule
from soul_lightning.callbacks import HuggingFaceExport
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.objectives import CrossEntropy
from tests.conftest import TinyDataModule, make_network, make_trainer

IDS = torch.tensor([[1, 5, 6, 7], [1, 9, 8, 4]])


class Foreign(LightningModule):
    """Somebody's own module, four steps an epoch."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.model = network

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(input_ids=batch, labels=batch).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        rows: Any = torch.randint(4, 30, (8, 6), generator=torch.Generator().manual_seed(0))
        return DataLoader(rows, batch_size=2, shuffle=True)


def with_adapters(network: LlamaForCausalLM) -> PeftModel:
    torch.manual_seed(0)
    adapted = get_peft_model(network, LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.1))
    assert isinstance(adapted, PeftModel)
    return adapted


def logits(network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(input_ids=IDS).logits
    return found


def assert_exported(folder: Path, network: torch.nn.Module) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(loaded, LlamaForCausalLM)
    torch.testing.assert_close(logits(loaded), logits(network), rtol=1e-5, atol=1e-6)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_any_network_is_exported_with_its_tokenizer(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    before = logits(tiny_network)
    export = HuggingFaceExport(tokenizer=tokenizer)
    make_trainer(tmp_path, callbacks=[export]).fit(Foreign(tiny_network))
    folder = tmp_path / "export"
    assert_exported(folder, tiny_network)
    assert not torch.allclose(logits(tiny_network), before)
    assert {"model.safetensors", "config.json", "tokenizer_config.json"} <= names(folder)
    assert AutoTokenizer.from_pretrained(folder)("ada lives")["input_ids"] == tokenizer("ada lives")["input_ids"]
    assert names(tmp_path) == {"export"}
    assert (export.last_path, export.last_step) == (folder, 4)


@pytest.mark.parametrize("place", ["logger", "root", "own"])
def test_where_the_folder_is(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, place: str
) -> None:
    logger = CSVLogger(tmp_path / "logs") if place == "logger" else False
    folder = str(tmp_path / "mine") if place == "own" else "final/model"
    expected = {"logger": "logs/lightning_logs/version_0/final/model", "root": "final/model", "own": "mine"}[place]
    export = HuggingFaceExport(folder, tokenizer=tokenizer)
    make_trainer(tmp_path, callbacks=[export], logger=logger).fit(Foreign(tiny_network))
    assert export.last_path == tmp_path / expected
    assert_exported(tmp_path / expected, tiny_network)


class LastWord(Callback):
    """Changes the weights when training ends, as averaging does, and looks into the export at epoch ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[bool | None] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.folder.exists():
            loaded = AutoModelForCausalLM.from_pretrained(self.folder)
            self.seen.append(torch.equal(loaded.lm_head.weight, self.network(pl_module).lm_head.weight))
        else:
            self.seen.append(None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.nn.init.constant_(self.network(pl_module).model.norm.weight, 0.5)

    @staticmethod
    def network(pl_module: LightningModule) -> LlamaForCausalLM:
        assert isinstance(pl_module, Foreign) and isinstance(pl_module.model, LlamaForCausalLM)
        return pl_module.model


def test_epochs_are_exported_when_due_and_the_end_after_everybody_else(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    last_word = LastWord(tmp_path / "export")
    export = HuggingFaceExport(tokenizer=tokenizer, every_n_epochs=2)
    make_trainer(tmp_path, callbacks=[export, last_word], max_epochs=5).fit(Foreign(tiny_network))
    assert last_word.seen == [None, True, False, True, False]  # the folder is replaced after two and four epochs
    assert_exported(tmp_path / "export", tiny_network)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert loaded.model.norm.weight.eq(0.5).all()
    assert export.last_step == 20


@pytest.mark.parametrize("adapters", [False, True])
def test_training_is_bitwise_the_same_with_and_without(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, adapters: bool
) -> None:
    found = []
    for callbacks in ([], [HuggingFaceExport(tokenizer=tokenizer, every_n_epochs=1)]):
        network: torch.nn.Module = make_network(len(tokenizer), dropout=0.3)
        module = Foreign(with_adapters(network) if adapters else network)  # type: ignore[arg-type]
        torch.manual_seed(0)
        trainer = make_trainer(tmp_path, callbacks=callbacks, max_epochs=2)
        trainer.fit(module)
        states = [value for state in trainer.optimizers[0].state_dict()["state"].values() for value in state.values()]
        found.append([*module.parameters(), *map(torch.as_tensor, states), torch.get_rng_state()])
        assert all(submodule.training for submodule in module.modules())
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("merge", [True, False])
def test_adapters_are_merged_into_a_copy_or_saved_alone(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, merge: bool
) -> None:
    network = with_adapters(tiny_network)
    export = HuggingFaceExport(tokenizer=tokenizer, merge_adapters=merge)
    module = Foreign(network)
    make_trainer(tmp_path, callbacks=[export]).fit(module)
    assert module.model is network
    assert any("lora" in name for name, _ in network.named_parameters())
    if merge:
        assert_exported(tmp_path / "export", network)
    else:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= names(tmp_path / "export")
        assert "model.safetensors" not in names(tmp_path / "export")
        adapted = PeftModel.from_pretrained(make_network(len(tokenizer)), str(tmp_path / "export"))
        torch.testing.assert_close(logits(adapted), logits(network))


def test_a_module_of_this_package_supplies_what_is_needed(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    module = UnlearningModule(make_network(len(tokenizer)), retain=CrossEntropy(), tokenizer=tokenizer)
    make_trainer(tmp_path, callbacks=[HuggingFaceExport()]).fit(module, TinyDataModule())
    assert_exported(tmp_path / "export", module.network)


class NeverTrained(Foreign):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        raise AssertionError("trained")


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (torch.nn.Linear(2, 2), {}, "the network of NeverTrained is a Linear, which has no save_pretrained"),
        (None, {"tokenizer": None}, "HuggingFaceExport found no tokenizer"),
        (None, {"network": "lm"}, r"HuggingFaceExport found no language model: .* network \('lm'\)"),
    ],
)
def test_what_cannot_be_exported_is_said_before_training(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, network: torch.nn.Module | None, settings: Any, message: str
) -> None:
    export = HuggingFaceExport(**({"tokenizer": tokenizer} | settings))
    with pytest.raises(MisconfigurationError, match=message) as caught:
        make_trainer(tmp_path, callbacks=[export]).fit(NeverTrained(network or make_network(len(tokenizer))))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == set()


def test_what_is_not_its_own_is_never_replaced(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "thesis.txt").write_text("years of work")
    export = HuggingFaceExport(tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match=r"export' exists and is not empty"):
        make_trainer(tmp_path, callbacks=[export]).fit(NeverTrained(tiny_network))
    assert names(tmp_path / "export") == {"thesis.txt"}


def test_what_appears_in_its_folder_during_the_run_is_not_replaced_either(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    class SomebodyElse(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            (tmp_path / "export").mkdir()
            (tmp_path / "export" / "thesis.txt").write_text("years of work")

    trainer = make_trainer(tmp_path, callbacks=[HuggingFaceExport(tokenizer=tokenizer), SomebodyElse()])
    with pytest.raises(MisconfigurationError, match=r"export' exists and is not empty"):
        trainer.fit(Foreign(tiny_network))
    assert names(tmp_path / "export") == {"thesis.txt"}


def test_its_own_is_replaced_also_by_a_resumed_run(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    def fit(export: HuggingFaceExport, epochs: int, ckpt_path: str | None = None) -> Foreign:
        module = Foreign(make_network(len(tokenizer)))
        keep = ModelCheckpoint(tmp_path / "kept", filename="{epoch}")
        trainer = make_trainer(tmp_path, callbacks=[export, keep], max_epochs=epochs, enable_checkpointing=True)
        trainer.fit(module, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
        return module

    first = HuggingFaceExport(tokenizer=tokenizer)
    fit(first, 1)
    assert_exported(tmp_path / "export", fit(first, 1).model)
    # The checkpoint was written before anything was exported; its run's export is still this run's own.
    resumed = HuggingFaceExport(tokenizer=tokenizer)
    assert_exported(tmp_path / "export", fit(resumed, 2, str(tmp_path / "kept" / "epoch=0.ckpt")).model)
    assert resumed.last_step == 8
    with pytest.raises(MisconfigurationError, match="not empty"):
        fit(HuggingFaceExport(tokenizer=tokenizer), 1)


def test_an_export_that_breaks_off_leaves_the_one_before(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = HuggingFaceExport(tokenizer=tokenizer)
    make_trainer(tmp_path, callbacks=[export]).fit(Foreign(tiny_network))
    before = logits(tiny_network)

    def no_space(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", no_space)
    with pytest.raises(OSError, match="no space left"):
        make_trainer(tmp_path, callbacks=[export]).fit(Foreign(tiny_network))
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "export")), before)
    assert names(tmp_path) == {"export"}
    assert export.last_step == 4


def test_a_trial_run_writes_nothing(
    tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "thesis.txt").write_text("years of work")
    export = HuggingFaceExport(tokenizer=tokenizer, every_n_epochs=1)
    make_trainer(tmp_path, callbacks=[export], fast_dev_run=True).fit(Foreign(tiny_network))
    assert names(tmp_path / "export") == {"thesis.txt"}
    assert export.last_path is None


class Sharded(Foreign):
    """Its weights are split over the processes."""

    def configure_model(self) -> None:
        mesh = self.device_mesh
        assert mesh is not None
        fully_shard(self.model, mesh=mesh["data_parallel"])


def fit_sharded(folder: Path, tokenizer: PreTrainedTokenizerFast, processes: int) -> dict[str, Any]:
    """Trains, exports, and returns the whole weights."""
    module = Sharded(make_network(len(tokenizer)))
    strategy = ModelParallelStrategy(data_parallel_size=processes, tensor_parallel_size=1)
    export = HuggingFaceExport(tokenizer=tokenizer, every_n_epochs=1)
    trainer = make_trainer(
        folder, strategy=strategy, devices=processes, callbacks=[export], plugins=[LightningEnvironment()]
    )
    trainer.fit(module)
    split = {name: value for name, value in module.model.named_parameters() if isinstance(value, DTensor)}
    return {name: value.full_tensor() for name, value in split.items()}


def _sharded_process(rank: int, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    weights = fit_sharded(folder, tokenizer, 2)
    if rank == 0:
        torch.save(weights, folder / "weights.pt")


def assert_weights_exported(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folder / "export")
    assert isinstance(loaded, LlamaForCausalLM)
    assert {name for name, _ in loaded.named_parameters()} == set(weights)
    for name, value in loaded.named_parameters():
        assert torch.equal(value, weights[name])
    with safe_open(folder / "export" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # it is tied to the embeddings
    assert loaded.generate(IDS[:1], max_new_tokens=2, do_sample=False).shape == (1, 6)


@pytest.fixture
def own_processes() -> Iterator[None]:
    """Leaves neither a process group nor its variables behind."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("own_processes")
def test_split_weights_are_put_together(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    weights = fit_sharded(tmp_path, tokenizer, 1)
    assert_weights_exported(tmp_path, weights)
    untrained = dict(make_network(len(tokenizer)).named_parameters())
    assert not any(torch.equal(weights[name], value) for name, value in untrained.items())


@pytest.mark.slow
def test_two_processes_put_split_weights_together(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_PORT", str(find_free_network_port()))
    spawn(_sharded_process, (tmp_path, tokenizer), nprocs=2)
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert_weights_exported(tmp_path, weights)


@pytest.mark.usefixtures("own_processes")
def test_split_adapters_are_put_together_and_merged(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    module = Sharded(with_adapters(make_network(len(tokenizer))))
    trainer = make_trainer(
        tmp_path, strategy=ModelParallelStrategy(1, 1), callbacks=[HuggingFaceExport(tokenizer=tokenizer)]
    )
    trainer.fit(module)
    assert any(bool(value.any()) for name, value in module.named_parameters() if "lora_B" in name)  # it was trained
    assert_exported(tmp_path / "export", module.model)


@pytest.mark.usefixtures("own_processes")
def test_other_split_weights_are_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrapped(torch.nn.Module):
        """Can be saved, and not be built anew."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = make_network(len(tokenizer))

        def save_pretrained(self, folder: str) -> None:
            self.inner.save_pretrained(folder)

    trainer = make_trainer(
        tmp_path, strategy=ModelParallelStrategy(1, 1), callbacks=[HuggingFaceExport(tokenizer=tokenizer)]
    )
    with pytest.raises(MisconfigurationError, match=r"a .*Wrapped whose weights are split over processes"):
        trainer.fit(Sharded(Wrapped()))
    trainer = make_trainer(tmp_path)
    monkeypatch.setattr(trainer.strategy, "__class__", FSDPStrategy)  # it refuses a CPU
    with pytest.raises(MisconfigurationError, match=r"trainer.strategy FSDPStrategy splits the weights"):
        HuggingFaceExport(tokenizer=tokenizer).on_fit_start(trainer, Foreign(make_network(len(tokenizer))))


def test_the_command_line_can_make_it() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Callback, "callback")
    settings = {"folder": "final", "every_n_epochs": 2, "merge_adapters": False, "tokenizer": "gpt2"}
    config = {"class_path": "soul_lightning.callbacks.HuggingFaceExport", "init_args": settings}
    made = parser.instantiate_classes(parser.parse_object({"callback": config})).callback
    assert isinstance(made, HuggingFaceExport)
    assert (made.folder, made.every_n_epochs, made.merge_adapters) == ("final", 2, False)
    assert made.state_key != HuggingFaceExport().state_key
    with pytest.raises(MisconfigurationError, match="every_n_epochs must be >= 1, got 0"):
        HuggingFaceExport(every_n_epochs=0)
