"""Pruning: the smallest weights of linear layers become 0 before training, and are 0 ever after."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.pruning import Pruning
from soul_lightning.modules.saliency import Saliency
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.networks.saving import save_pretrained
from soul_lightning.objectives import NPO, CrossEntropy
from tests.conftest import TinyDataModule, make_network, make_trainer

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": partial(AdamW, lr=1e-2, weight_decay=0.5)},
    "momentum": {"optimizer": partial(SGD, lr=1e-2, momentum=0.9)},
    "sophia": {
        "optimizer": partial(Sophia, lr=1e-2, weight_decay=0.5),
        "curvature": GaussNewtonBartlett(interval_steps=2),
    },
}


def build(tokenizer: PreTrainedTokenizerFast, network: PreTrainedModel | None = None, **settings: Any) -> Any:
    given = network if network is not None else make_network(len(tokenizer))
    return UnlearningModule(given, NPO(0.5), CrossEntropy(), tokenizer=tokenizer, **settings)


def matrices(network: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in network.named_parameters() if name.endswith("proj.weight")}


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_smallest_weights_are_pruned(tokenizer: PreTrainedTokenizerFast, scope: Any) -> None:
    network = make_network(len(tokenizer))
    with torch.no_grad():
        network.model.layers[0].mlp.down_proj.weight.mul_(0.01)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    kept = Pruning(0.25, scope).prune(network)
    after = dict(network.named_parameters())
    pruned = {name: value == 0 for name, value in matrices(network).items()}
    assert len(pruned) == len(kept) == 14
    shares = {name: float(each.float().mean()) for name, each in pruned.items()}
    if scope == "layer":
        assert all(share == pytest.approx(0.25, abs=1e-3) for share in shares.values())
    else:
        assert sum(int(each.sum()) for each in pruned.values()) == round(0.25 * sum(m.numel() for m in pruned.values()))
        assert max(shares, key=lambda name: shares[name]) == "model.layers.0.mlp.down_proj.weight"
    for name, each in pruned.items():
        own = before[name]
        assert torch.equal(after[name][~each], own[~each])
        if scope == "layer":
            assert float(own[each].abs().max()) < float(own[~each].abs().min())
    others = [name for name in before if name not in pruned]
    assert "model.embed_tokens.weight" in others
    assert all(torch.equal(before[name], after[name]) for name in others)
    again = Pruning(0.25, scope).prune(network)
    assert all(torch.equal(again[parameter], mask) for parameter, mask in kept.items())


def test_transposed_linear_layers_and_an_untied_head() -> None:
    """GPT-2 has linear layers of its own class; its head is a `Linear`, and stays whole."""
    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=16, tie_word_embeddings=False)
    network = GPT2LMHeadModel(config)
    kept = Pruning(0.5).prune(network)
    names = {name for name, value in network.named_parameters() if value in kept}
    assert names == {
        f"transformer.h.{block}.{name}.weight"
        for block in (0, 1)
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert bool((network.lm_head.weight != 0).all())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_0_and_others_train(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, optimizer: str
) -> None:
    network = make_network(len(tokenizer))
    pruned = make_network(len(tokenizer))
    Pruning(0.5).prune(pruned)
    module = build(tokenizer, network, pruning=Pruning(0.5), **OPTIMIZERS[optimizer])
    make_trainer(tmp_path, max_epochs=2).fit(module, datamodule=TinyDataModule(4))
    for name, start in matrices(pruned).items():
        now = matrices(network)[name]
        assert torch.equal(now == 0, start == 0)
        assert float((now != start)[start != 0].float().mean()) > 0.9
    save_pretrained(network, tokenizer, tmp_path / "export")
    exported = LlamaForCausalLM.from_pretrained(tmp_path / "export")
    assert all(torch.equal(own == 0, matrices(pruned)[name] == 0) for name, own in matrices(exported).items())


def test_the_pruned_model_is_the_reference(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """NPO's first loss is 2/β · log 2 wherever the model is its own reference."""
    module = build(tokenizer, pruning=Pruning(0.9))
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.fit(module, datamodule=TinyDataModule(8))
    assert float(trainer.logged_metrics["train/forget_loss"]) == pytest.approx(4 * 0.693147, rel=1e-5)


def test_together_with_a_saliency_mask(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    pruned = make_network(len(tokenizer))
    Pruning(0.5).prune(pruned)
    module = build(tokenizer, pruning=Pruning(0.5), saliency=Saliency(0.3, "mlp"), optimizer=partial(AdamW, lr=1e-2))
    make_trainer(tmp_path, max_epochs=2).fit(module, datamodule=TinyDataModule(4))
    for name, start in matrices(pruned).items():
        now = matrices(module.network)[name]
        assert not bool((now != 0)[start == 0].any())
        moved = float((now != start).float().mean())
        assert 0 < moved < 0.35 if "mlp" in name else moved == 0


def test_a_resumed_run_ends_like_an_unbroken_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    straight, half, resumed = (build(tokenizer, pruning=Pruning(0.5), **OPTIMIZERS["adamw"]) for _ in range(3))
    make_trainer(tmp_path, max_epochs=4).fit(straight, datamodule=TinyDataModule(4))
    first = make_trainer(tmp_path, max_epochs=4, max_steps=4)
    first.fit(half, datamodule=TinyDataModule(4))
    first.save_checkpoint(tmp_path / "half.ckpt")
    make_trainer(tmp_path, max_epochs=4).fit(
        resumed, datamodule=TinyDataModule(4), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for name, value in matrices(straight.network).items():
        assert torch.equal(matrices(resumed.network)[name], value), name
        assert float((value == 0).float().mean()) == pytest.approx(0.5, abs=1e-3)


def test_adapters_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    network = cast("PreTrainedModel", _add_lora(make_network(len(tokenizer)), LoraSettings()))
    with pytest.raises(MisconfigurationError, match="adapters add to them"):
        Pruning().prune(network)


@pytest.mark.parametrize(("settings", "message"), [((0.0,), "got 0.0"), ((1.0,), "got 1.0"), ((0.5, "row"), "'row'")])
def test_settings_out_of_range(settings: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Pruning(*settings)
