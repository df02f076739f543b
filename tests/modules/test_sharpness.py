"""Sharpness-aware unlearning: the step is the written-out one, and nothing of the detour stays."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.saliency import Saliency
from soul_lightning.modules.sharpness import ascended
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.objectives import NPO, CrossEntropy, GradientAscent, KLDivergence, Objective
from tests.conftest import TinyDataModule, make_network, make_trainer

RATE, RADIUS = 0.1, 0.5


def vector(network: nn.Module) -> Tensor:
    return parameters_to_vector(p for p in network.parameters() if p.requires_grad).detach().clone()


def build(tokenizer: PreTrainedTokenizerFast, forget: Objective, network: nn.Module | None = None, **own: Any) -> Any:
    settings: dict[str, Any] = {"max_grad_norm": None, "optimizer": partial(SGD, lr=RATE), "retain": CrossEntropy()}
    given = cast("PreTrainedModel", network if network is not None else make_network(len(tokenizer)))
    return UnlearningModule(given, forget, tokenizer=tokenizer, **(settings | own))


def step(module: UnlearningModule, folder: Path, **settings: Any) -> tuple[Tensor, dict[str, float]]:
    """By how much one step moved the weights, and what it logged."""
    before = vector(module.network)
    trainer = make_trainer(folder, **({"max_steps": 1} | settings))
    trainer.fit(module, datamodule=TinyDataModule(8))
    metrics = {name: float(value) for name, value in trainer.logged_metrics.items()}
    return vector(module.network) - before, metrics


def gradient(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stream: str) -> tuple[Tensor, float]:
    """Token-mean NLL of a whole stream, its gradient first, with nothing of the package's loop."""
    data = TinyDataModule(8, tokenizer=tokenizer)
    data.setup()
    (batch,) = list(data.stream(stream))
    logits = network(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten())
    return parameters_to_vector(torch.autograd.grad(loss, list(network.parameters()))), float(loss.detach())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_step_is_the_written_out_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, sign: float) -> None:
    """CrossEntropy as a forget loss, and gradient ascent, whose worst place nearby is where the NLL is *lower*."""
    network = make_network(len(tokenizer))
    twin = copy.deepcopy(network)
    module = build(tokenizer, CrossEntropy() if sign > 0 else GradientAscent(), network, sharpness_radius=RADIUS)
    change, metrics = step(module, tmp_path)

    retain, _ = gradient(twin, tokenizer, "retain")
    at_theta, loss = gradient(twin, tokenizer, "forget")
    theta = parameters_to_vector(twin.parameters()).detach()
    nn.utils.vector_to_parameters(theta + RADIUS * sign * at_theta / at_theta.norm(), twin.parameters())
    nearby, loss_nearby = gradient(twin, tokenizer, "forget")
    torch.testing.assert_close(change, -RATE * (sign * nearby + retain), rtol=1e-4, atol=1e-6)
    assert float((nearby - at_theta).norm() / at_theta.norm()) > 0.1  # the two are told apart
    assert metrics["train/forget_loss"] == pytest.approx(sign * loss, rel=1e-5)
    assert metrics["train/sharpness"] == pytest.approx(sign * (loss_nearby - loss), rel=1e-3)
    assert metrics["train/sharpness"] > 0


def test_a_small_radius_gives_the_plain_gradient(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    plain, _ = step(build(tokenizer, NPO(0.5)), tmp_path)
    tiny, _ = step(build(tokenizer, NPO(0.5), sharpness_radius=1e-6), tmp_path)
    wide, _ = step(build(tokenizer, NPO(0.5), sharpness_radius=RADIUS), tmp_path)
    assert float((tiny - plain).norm() / plain.norm()) < 1e-4
    assert float((wide - plain).norm() / plain.norm()) > 0.05


def test_the_weights_come_back_to_the_bit() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(50, 40) * 10.0**power for power in range(-6, 2)]
    before = [weight.clone() for weight in weights]
    gradients: list[Tensor | None] = [torch.randn_like(weight) for weight in weights]
    with pytest.raises(KeyError), ascended(weights, gradients, 3.0) as has_moved:
        assert has_moved
        distance = sum(float((a - b).square().sum()) for a, b in zip(weights, before, strict=True)) ** 0.5
        assert distance == pytest.approx(3.0, rel=1e-4)
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_gradient_without_a_direction_moves_nothing(value: float) -> None:
    weights = [torch.ones(3)]
    with ascended(weights, [torch.full((3,), value)], 1.0) as has_moved:
        assert not has_moved
        assert torch.equal(weights[0], torch.ones(3))


def test_a_forget_loss_without_weight(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    plain, _ = step(build(tokenizer, NPO(0.5), forget_weight=0.0), tmp_path)
    aware, metrics = step(build(tokenizer, NPO(0.5), sharpness_radius=RADIUS, forget_weight=0.0), tmp_path)
    assert "train/sharpness" not in metrics
    torch.testing.assert_close(aware, plain)


@pytest.mark.parametrize("options", [{}, {"gradient_surgery": "gru"}, {"saliency": Saliency(0.3)}])
def test_micro_batches_change_nothing(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, options: dict[str, Any]
) -> None:
    changes = [
        step(build(tokenizer, NPO(0.5), sharpness_radius=RADIUS, micro_batches=parts, **options), tmp_path)[0]
        for parts in (1, 3)
    ]
    torch.testing.assert_close(*changes, rtol=1e-4, atol=1e-6)
    assert float(changes[0].norm()) > 1e-3


def test_only_what_trains_is_moved(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Of a mask's weights the ascent is the whole of ρ: it equals that of a network whose others are frozen."""
    network = make_network(len(tokenizer))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("layers.1.mlp" in name)
    frozen, _ = step(build(tokenizer, NPO(0.5), network, sharpness_radius=RADIUS), tmp_path)
    named = build(tokenizer, NPO(0.5), sharpness_radius=RADIUS, saliency=Saliency(modules=r"layers\.1\.mlp"))
    named.configure_model()  # which freezes the others
    torch.testing.assert_close(step(named, tmp_path)[0], frozen)


def test_adapters(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = _add_lora(make_network(len(tokenizer)), LoraSettings(r=4))
    frozen = {name: value.clone() for name, value in network.named_parameters() if not value.requires_grad}
    change, metrics = step(build(tokenizer, NPO(0.5), network, sharpness_radius=RADIUS), tmp_path)
    assert float(change.norm()) > 0
    assert metrics["train/sharpness"] > 0
    assert all(torch.equal(value, frozen[name]) for name, value in network.named_parameters() if name in frozen)


def test_bf16_sees_the_weights_nearby(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Autocast keeps the weights that it has cast: those of the first pass must not serve the second."""
    changes = [
        step(build(tokenizer, GradientAscent(), sharpness_radius=2.0), tmp_path, precision=precision)
        for precision in ("32-true", "bf16-mixed")
    ]
    assert changes[1][1]["train/sharpness"] == pytest.approx(changes[0][1]["train/sharpness"], rel=0.05)
    assert float((changes[1][0] - changes[0][0]).norm() / changes[0][0].norm()) < 0.1


@pytest.mark.parametrize("source", ["retain", "forget", "both"])
def test_a_refresh_leaves_its_graph_to_the_first_pass(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, source: Any
) -> None:
    """The graph of either stream is gone through before the weights move; the step is that without a shared graph."""
    changes = []
    for refreshes in (True, False):
        curvature = GaussNewtonBartlett(interval_steps=1, source=source)
        curvature.reuses_graph = refreshes
        optimizer = partial(Sophia, lr=1e-2, rho=0.4)
        module = build(tokenizer, GradientAscent(), sharpness_radius=RADIUS, optimizer=optimizer, curvature=curvature)
        changes.append(step(module, tmp_path)[0])
    torch.testing.assert_close(*changes, rtol=0, atol=1e-4)


def test_dropout_is_the_same_in_both_passes(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    network = make_network(len(tokenizer), dropout=0.5)
    _, metrics = step(build(tokenizer, GradientAscent(), network, sharpness_radius=1e-4), tmp_path)
    assert 0 < metrics["train/sharpness"] < 1e-3  # other masks would move the loss by far more


def test_a_resumed_run_ends_like_an_unbroken_one(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def module() -> UnlearningModule:
        built: UnlearningModule = build(
            tokenizer,
            NPO(0.5),
            make_network(len(tokenizer), dropout=0.1),
            retain=KLDivergence(),
            sharpness_radius=RADIUS,
        )
        return built

    straight, half, resumed = module(), module(), module()
    torch.manual_seed(1)
    make_trainer(tmp_path, max_epochs=4).fit(straight, datamodule=TinyDataModule(4))
    torch.manual_seed(1)
    first = make_trainer(tmp_path, max_epochs=4, max_steps=4)
    first.fit(half, datamodule=TinyDataModule(4))
    first.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(2)
    make_trainer(tmp_path, max_epochs=4).fit(
        resumed, datamodule=TinyDataModule(4), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert torch.equal(vector(resumed.network), vector(straight.network))
    assert not torch.equal(vector(resumed.network), vector(half.network))


@pytest.mark.parametrize(("forget", "radius"), [(None, 0.1), (GradientAscent(), 0.0), (GradientAscent(), -1.0)])
def test_a_radius_without_a_meaning_is_refused(tokenizer: PreTrainedTokenizerFast, forget: Any, radius: float) -> None:
    with pytest.raises(MisconfigurationError, match="sharpness_radius is a distance above 0"):
        build(tokenizer, forget, sharpness_radius=radius)
