"""Locate, then edit: the closed form, what it spares, and what becomes of a network that knew the answers."""

from __future__ import annotations

import copy
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import AdamW
from transformers import LlamaForCausalLM, MambaConfig, MambaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from soul_lightning import FinetuningModule, LocateAndEditModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.locate_edit import key_positions, least_squares_edit
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.networks.mlp import covariance
from soul_lightning.objectives import DPO, NPO, RMU, GradientAscent, KLMaximization, Objective, PreferenceOptimization
from soul_lightning.protocols import IGNORE_INDEX, Batch
from tests.conftest import TinyDataModule, make_network, make_tokenizer, make_trainer


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_closed_form_is_the_least_squares_solution() -> None:
    """Of the stacked system: the keys with their changes, and the retained keys, weighted, with none."""
    keys, changes, retained = random(5, 8, seed=0), random(5, 3, seed=1), random(20, 8, seed=2)
    update = least_squares_edit(keys, changes, covariance(retained) / 20, 7.0)
    rows = np.concatenate([keys.numpy(), (7.0 / 20) ** 0.5 * retained.numpy()])
    targets = np.concatenate([changes.numpy(), np.zeros((20, 3))])
    expected = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(update.T.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_fewer_keys_than_inputs_are_met_exactly_by_the_smallest_update() -> None:
    keys, changes = random(3, 8, seed=0), random(3, 2, seed=1)
    update = least_squares_edit(keys, changes, torch.zeros(8, 8), 1.0)
    torch.testing.assert_close(keys @ update.T, changes)
    np.testing.assert_allclose(update.T.numpy(), np.linalg.lstsq(keys.numpy(), changes.numpy(), rcond=None)[0])


def test_retained_keys_move_less_and_the_less_the_more_they_count() -> None:
    keys, changes, retained = random(10, 32, seed=0), random(10, 4, seed=1), random(40, 32, seed=2)
    moved = []
    for preservation in (1.0, 100.0, 10000.0):
        update = least_squares_edit(keys, changes, covariance(retained) / 40, preservation)
        moved.append((float((keys @ update.T).norm()), float((retained @ update.T).norm())))
    assert all(forget > retain for forget, retain in moved)
    assert moved[0][1] > 2 * moved[1][1] > 4 * moved[2][1]


def batch(labels: list[list[int]], mask: list[list[int]]) -> Batch:
    own = torch.tensor(labels)
    own = own.where(own > 0, IGNORE_INDEX)
    return Batch(torch.ones_like(own), torch.tensor(mask), own, torch.arange(len(own)))


def test_keys_stand_at_the_prompts_last_token() -> None:
    rows = batch(
        [[0, 0, 0, 5, 6, 0], [0, 0, 0, 0, 5, 6], [0, 5, 6, 7, 0, 0], [0, 0, 0, 5, 6, 7], [0, 0, 0, 0, 0, 0]],
        [[1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]],
    )
    expected = [
        [0, 0, 1, 0, 0, 0],  # a prompt, padding behind
        [0, 0, 0, 1, 0, 0],  # a prompt, padding before
        [1, 1, 1, 0, 0, 0],  # none: every token that predicts
        [0, 0, 1, 1, 1, 0],  # none, padding before
        [0, 0, 0, 0, 0, 0],  # nothing is labelled
    ]
    assert key_positions(rows).int().tolist() == expected


@cache
def knowing() -> LlamaForCausalLM:
    """A network that knows every row of `TinyDataModule`."""
    tokenizer = make_tokenizer()
    network = make_network(len(tokenizer))
    module = FinetuningModule(network, optimizer=partial(AdamW, lr=1e-2), tokenizer=tokenizer)
    make_trainer(Path(), max_epochs=40).fit(module, datamodule=TinyDataModule(8))
    network.eval()
    return network


def edited(tokenizer: PreTrainedTokenizerFast, folder: Path, **settings: Any) -> tuple[LlamaForCausalLM, Trainer]:
    network = copy.deepcopy(knowing())
    trainer = make_trainer(folder, max_epochs=3)
    data = TinyDataModule(8, **({"streams": ("forget", "retain")} | settings.pop("data", {})))
    trainer.fit(LocateAndEditModule(network, tokenizer=tokenizer, **settings), datamodule=data)
    network.eval()
    return network, trainer


def answers(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stream: str) -> float:
    """The mean probability of a stream's answers."""
    data = TinyDataModule(8, tokenizer=tokenizer)
    data.setup()
    module = FinetuningModule(network, tokenizer=tokenizer)
    with torch.no_grad():
        said = [module(rows) for rows in data.stream(stream)]
    return float(torch.cat([each.row_sums(each.log_probs).exp() for each in said]).mean())


@pytest.mark.parametrize("forget", [NPO(0.5), GradientAscent(), PreferenceOptimization()])
def test_forget_answers_fall_and_retain_answers_stay(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, forget: Objective
) -> None:
    before = [answers(knowing(), tokenizer, stream) for stream in ("forget", "retain")]
    network, trainer = edited(tokenizer, tmp_path, forget=forget, preservation=1.0)
    after = [answers(network, tokenizer, stream) for stream in ("forget", "retain")]
    assert min(before) > 0.8
    assert after[0] < 0.3
    assert after[1] > 0.8 * before[1]
    assert trainer.global_step == 1
    metrics = {name: float(value) for name, value in trainer.logged_metrics.items()}
    assert metrics["train/value_loss"] < metrics["train/forget_loss"]
    assert 0 <= metrics["train/residual"] < 1


def test_one_matrix_moves_and_micro_batches_change_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    before = dict(knowing().named_parameters())
    changes = []
    for parts in (1, 3):
        network, trainer = edited(tokenizer, tmp_path, layers=[1], micro_batches=parts)
        moved = {
            name: value - before[name] for name, value in network.named_parameters() if (value != before[name]).any()
        }
        assert list(moved) == ["model.layers.1.mlp.down_proj.weight"]
        (change,) = moved.values()
        changes.append(change.detach())
        assert float(trainer.logged_metrics["train/update_norm"]) == pytest.approx(float(change.norm()), rel=1e-4)
    torch.testing.assert_close(*changes, rtol=1e-3, atol=1e-4)


def test_layers_in_turn(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The second edit starts from what the first has left, so that its loss is lower."""
    _, one = edited(tokenizer, tmp_path, layers=[0], preservation=1.0)
    network, both = edited(tokenizer, tmp_path, layers=[0, 1], preservation=1.0)
    assert float(both.logged_metrics["train/forget_loss"]) < float(one.logged_metrics["train/forget_loss"])
    assert float(both.logged_metrics["train/update_norm"]) > float(one.logged_metrics["train/update_norm"])
    assert answers(network, tokenizer, "forget") < 0.3


def test_the_layer_that_carries_the_answers_is_found(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A layer whose MLP says nothing cannot be it."""
    network = copy.deepcopy(knowing())
    for silent, other in ((0, 1), (1, 0)):
        muted = copy.deepcopy(network)
        with torch.no_grad():
            muted.model.layers[silent].mlp.down_proj.weight.zero_()
        trainer = make_trainer(tmp_path)
        trainer.fit(LocateAndEditModule(muted, tokenizer=tokenizer), datamodule=TinyDataModule(8))
        assert float(trainer.logged_metrics["train/layer"]) == other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forget": DPO(0.5)}, "DPO reads answer and refusal"),
        ({"forget": RMU(layer=1)}, "reads answer or hidden|hidden states"),
        ({"layers": []}, "layers name one or be none"),
        ({"preservation": -1.0}, "got -1.0"),
        ({"value_steps": 0}, "value_steps >= 1"),
    ],
)
def test_settings_out_of_range(tokenizer: PreTrainedTokenizerFast, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        LocateAndEditModule(make_network(len(tokenizer)), tokenizer=tokenizer, **settings)


def test_blocks_that_are_not_there(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"layers=\[2\] must name different blocks from 0 to 1"):
        edited(tokenizer, tmp_path, layers=[2])


def test_a_start_at_the_minimum_moves_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    network, _ = edited(tokenizer, tmp_path, forget=KLMaximization(), value_steps=1, value_lr=1e-9)
    assert answers(network, tokenizer, "forget") == pytest.approx(answers(knowing(), tokenizer, "forget"), rel=1e-3)


@pytest.mark.parametrize("kind", ["mamba", "adapters"])
def test_networks_without_such_a_layer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, kind: str) -> None:
    network: PreTrainedModel = MambaForCausalLM(
        MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, state_size=4)
    )
    if kind == "adapters":
        network = cast("PreTrainedModel", _add_lora(make_network(len(tokenizer)), LoraSettings(r=2)))
    message = "found in 0 of 2 blocks" if kind == "mamba" else "its own weight must train"
    with pytest.raises(MisconfigurationError, match=message):
        make_trainer(tmp_path).fit(LocateAndEditModule(network, tokenizer=tokenizer), datamodule=TinyDataModule(8))
