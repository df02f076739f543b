from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning import InfluenceUnlearningModule
from soul_lightning.cli.main import main
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.saliency import Saliency
from soul_lightning.optim import ConjugateGradient, DiagonalGaussNewton, InverseHessian
from tests.conftest import TinyDataModule, make_network, make_trainer


def vector(network: torch.nn.Module) -> Tensor:
    return parameters_to_vector(network.parameters()).detach().clone()


def run(module: InfluenceUnlearningModule, folder: Path, **settings: Any) -> tuple[Tensor, Trainer]:
    """The change of the weights, and the Trainer."""
    before = vector(module.network)
    trainer = make_trainer(folder, **settings)
    trainer.fit(module, datamodule=TinyDataModule(3))
    return vector(module.network) - before, trainer


def build(tokenizer: PreTrainedTokenizerFast, solver: InverseHessian | None = None, **settings: Any) -> Any:
    network = make_network(len(tokenizer), dropout=0.1)
    return InfluenceUnlearningModule(network, solver, tokenizer=tokenizer, **settings)


def summed_loss(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stream: str) -> Tensor:
    data = TinyDataModule(8, tokenizer=tokenizer)
    data.setup()
    (batch,) = list(data.stream(stream))
    logits = network(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum")


@pytest.mark.parametrize("assume_stationary", [True, False])
def test_the_update_solves_the_damped_newton_equation(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, assume_stationary: bool
) -> None:
    module = build(
        tokenizer, ConjugateGradient(40, 1e-5), damping=1000.0, assume_stationary=assume_stationary, micro_batches=2
    )
    twin = copy.deepcopy(module.network).eval()
    change, trainer = run(module, tmp_path)

    # (H + λ) Δ against b, both written out with plain autograd on the same rows in one batch, without dropout.
    twin.set_attn_implementation("eager")  # which differentiates twice
    parameters = list(twin.parameters())
    retain = torch.autograd.grad(summed_loss(twin, tokenizer, "retain"), parameters, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in retain])
    product = torch.autograd.grad(flat @ change, parameters)
    left = torch.cat([part.flatten() for part in product]) + 1000.0 * change
    forget = torch.autograd.grad(summed_loss(twin, tokenizer, "forget"), parameters)
    right = torch.cat([gradient.flatten() for gradient in forget]) if assume_stationary else -flat.detach()
    assert float((left - right).norm() / right.norm()) < 1e-3
    assert float(trainer.logged_metrics["train/gradient_norm"]) == pytest.approx(float(right.norm()), rel=1e-4)
    assert float(trainer.logged_metrics["train/update_norm"]) == pytest.approx(float(change.norm()), rel=1e-4)
    assert float(trainer.logged_metrics["train/residual"]) < 1e-4
    assert float(trainer.logged_metrics["train/solver_iterations"]) >= 3
    assert float(trainer.logged_metrics["step"]) == 1


class Counts(Callback):
    def __init__(self) -> None:
        self.batches = 0
        self.epoch_ends: list[int] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch_ends.append(trainer.global_step)


@pytest.mark.parametrize("max_epochs", [1, 5, -1])
def test_the_whole_run_is_one_step(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, max_epochs: int) -> None:
    counts = Counts()
    module = build(tokenizer, DiagonalGaussNewton(), damping=100.0)
    _, trainer = run(module, tmp_path, max_epochs=max_epochs, callbacks=[counts])
    assert trainer.global_step == 1
    assert (counts.batches, counts.epoch_ends) == (1, [1])
    assert "train/residual" not in trainer.logged_metrics
    assert all(parameter.grad is None for parameter in module.network.parameters())


def test_a_later_step_changes_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    changes = []
    for settings in ({}, {"min_epochs": 3, "max_epochs": 3}):
        change, trainer = run(build(tokenizer, DiagonalGaussNewton(), damping=100.0), tmp_path, **settings)
        changes.append(change)
        assert trainer.global_step == 1
    assert torch.equal(*changes)


def test_a_resumed_run_is_left_as_it_is(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = build(tokenizer, DiagonalGaussNewton(), damping=100.0)
    _, trainer = run(module, tmp_path)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = build(tokenizer, DiagonalGaussNewton(), damping=100.0)
    resumed = make_trainer(tmp_path, max_epochs=3)
    resumed.fit(again, datamodule=TinyDataModule(3), ckpt_path=str(tmp_path / "one.ckpt"))
    assert resumed.global_step == 1
    assert torch.equal(vector(module.network), vector(again.network))


def test_ascent_on_forget_is_spared_where_retain_bends(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = build(tokenizer, ConjugateGradient(), damping=300.0)
    twin = copy.deepcopy(module.network).eval()
    run(module, tmp_path)
    with torch.no_grad():
        rises = {
            name: float(summed_loss(module.network.eval(), tokenizer, name) - summed_loss(twin, tokenizer, name))
            for name in ("forget", "retain")
        }
    assert rises["forget"] > 1
    assert rises["forget"] > 2 * rises["retain"]


def test_damping_bounds_the_update(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for solver in (DiagonalGaussNewton(), ConjugateGradient()):
        change, trainer = run(build(tokenizer, solver, damping=1e4), tmp_path)
        bound = float(trainer.logged_metrics["train/gradient_norm"]) / 1e4
        assert 0.5 * bound < float(change.norm()) < 1.01 * bound


def test_a_part_of_the_retain_stream_stands_for_all(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    norms = []
    for batches in (None, 2, 99):
        module = build(tokenizer, DiagonalGaussNewton(), damping=100.0, assume_stationary=False, retain_batches=batches)
        _, trainer = run(module, tmp_path)
        norms.append(float(trainer.logged_metrics["train/gradient_norm"]))
        if batches == 2:
            chosen, weight = module.read("retain", batches)
            assert [len(batch) for batch in chosen] == [3, 2]  # the first and the last of three batches
            tokens = sum(batch.labelled_tokens for batch in TinyDataModule(3, tokenizer=tokenizer).stream("retain"))
            assert weight == pytest.approx(tokens / sum(batch.labelled_tokens for batch in chosen))
    assert norms[0] == norms[2]
    assert 0.5 * norms[0] < norms[1] < 2 * norms[0]


def test_a_mask_moves_its_weights_only(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = build(tokenizer, ConjugateGradient(3), damping=100.0, saliency=Saliency(fraction=0.1, modules="mlp"))
    before = {name: value.clone() for name, value in module.network.named_parameters()}
    run(module, tmp_path)
    moved = {name: value != before[name] for name, value in module.network.named_parameters()}
    assert not any(bool(changed.any()) for name, changed in moved.items() if "mlp" not in name)
    share = sum(int(changed.sum()) for changed in moved.values()) / sum(
        changed.numel() for name, changed in moved.items() if "mlp" in name
    )
    assert 0.08 < share < 0.11


def test_bf16_mixed_differentiates_in_float32(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    changes = [
        run(build(tokenizer, ConjugateGradient(3), damping=300.0), tmp_path, precision=precision)[0]
        for precision in ("32-true", "bf16-mixed")
    ]
    torch.testing.assert_close(*changes)


class Keep(Callback):
    """Writes the weights to a file, for spawned processes return nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, InfluenceUnlearningModule)
        if trainer.global_rank == trainer.world_size - 1:  # the process that nothing else speaks of
            torch.save(vector(pl_module.network), self.path)


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for processes in (1, 2):
        strategy = {} if processes == 1 else {"strategy": "ddp_spawn"}
        trainer = make_trainer(tmp_path, devices=processes, callbacks=[Keep(tmp_path / f"{processes}.pt")], **strategy)
        module = build(tokenizer, ConjugateGradient(3), damping=1000.0)
        trainer.fit(module, datamodule=TinyDataModule(3, tokenizer=tokenizer))
    one, two = (torch.load(tmp_path / f"{processes}.pt", weights_only=True) for processes in (1, 2))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("settings", "message"), [({"damping": -1.0}, "got -1.0"), ({"retain_batches": 0}, "and 0")])
def test_settings_out_of_range_are_refused(
    tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        build(tokenizer, **settings)


def test_data_without_streams_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    data = TinyDataModule(3, tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match="NoneType has no stream"):
        make_trainer(tmp_path).fit(build(tokenizer), train_dataloaders=data.train_dataloader())


def test_under_fit_from_yaml(tmp_path: Path, model_folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = {name: tmp_path / f"{name}.jsonl" for name in ("forget", "retain")}
    rows["forget"].write_text(json.dumps({"prompt": "ada lives in", "answer": "paris"}) + "\n")
    rows["retain"].write_text(json.dumps({"prompt": "cora lives in", "answer": "oslo"}) + "\n")
    config = {
        "model": {
            "class_path": "InfluenceUnlearningModule",
            "init_args": {
                "network": {"pretrained_model_name_or_path": str(model_folder)},
                "solver": {"class_path": "LiSSA", "init_args": {"depth": 5}},
                "damping": 300.0,
            },
        },
        "data": {
            "class_path": "RecordsDataModule",
            "init_args": {"batch_size": 1, "max_tokens": 16, **{name: str(path) for name, path in rows.items()}},
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "default_root_dir": str(tmp_path / "run")},
    }
    (tmp_path / "one.yaml").write_text("# One shot\n" + yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "one.yaml")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["optimizer_steps"] == 1
    assert summary["train/update_norm"] > 0
    assert summary["train/residual"] < 1
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "checkpoints").exists()
