"""The hash of a model sees every bit, and copies train where the model cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from soul_lightning.attacks import copies
from soul_lightning.attacks.copies import fingerprint, left_alone, throw_away_copy
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork

IDS = torch.tensor([[5, 6, 7, 8]])


class Small(nn.Module):
    """Weights and buffers of several types, one of them not saved, one empty, one a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        self.narrow = nn.Parameter(torch.tensor([[0.5]], dtype=torch.bfloat16))
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("unsaved", torch.tensor([4.0], dtype=torch.float64), persistent=False)
        self.register_buffer("empty", torch.zeros(0))


def tensors(network: nn.Module) -> Iterator[Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def bits_of(tensor: Tensor) -> Iterator[tuple[Tensor, int, int]]:
    """Each bit, as (bytes that share the memory, place, mask); of a truth value the last alone means something."""
    raw = tensor.detach().reshape(-1).view(torch.uint8)
    for place in range(len(raw)):
        for bit in range(1 if tensor.dtype == torch.bool else 8):
            yield raw, place, 1 << bit


def test_every_single_bit_changes_the_hash() -> None:
    network = Small()
    before = fingerprint(network)
    hashes = [before]
    for tensor in tensors(network):
        for raw, place, mask in bits_of(tensor):
            raw[place] ^= mask
            hashes.append(fingerprint(network))
            raw[place] ^= mask
    assert fingerprint(network) == before
    assert len(set(hashes)) == len(hashes) == 1 + 64 + 16 + 64 + 2 + 64


def test_names_types_shapes_and_ties_count() -> None:
    def made(change: str) -> nn.Module:
        network: Any = nn.ModuleDict({"one": nn.Linear(2, 2, bias=False), "two": nn.Linear(2, 2, bias=False)})
        with torch.no_grad():
            network["one"].weight.zero_()
            network["two"].weight.zero_()
        if change == "name":
            network["three"] = network.pop("two")
        elif change == "type":
            network["two"].half()
        elif change == "shape":
            network["two"].weight = nn.Parameter(torch.zeros(1, 4))
        elif change == "tie":
            network["two"].weight = network["one"].weight
        elif change == "buffer":
            network["two"].register_buffer("more", torch.zeros(1))
        return network  # type: ignore[no-any-return]

    changes = ("", "name", "type", "shape", "tie", "buffer")
    assert len({fingerprint(made(change)) for change in changes}) == len(changes)
    assert fingerprint(made("")) == fingerprint(made("").train()) == fingerprint(made("").eval())


def test_scales_of_4_bit_layers_count(model_folder: Path) -> None:
    """They are neither weights nor buffers."""
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    for kind, scale in (("nf4", "weight.quant_state.absmax"), ("int8", "weight.SCB")):
        source: Any = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2), quantization=kind)  # type: ignore[arg-type]
        network: Any = source.load_network()
        layer = network.get_submodule("base_model.model.model.layers.0.mlp.up_proj.base_layer")
        values: Any = layer
        for part in scale.split("."):
            values = getattr(values, part)
        before = fingerprint(network)
        values.view(torch.uint8)[0] ^= 1
        assert fingerprint(network) != before
        values.view(torch.uint8)[0] ^= 1
        assert fingerprint(network) == before
        assert fingerprint(throw_away_copy(network, "the test")) == before


def test_a_change_is_an_error_and_a_look_is_none(tiny_network: LlamaForCausalLM) -> None:
    with left_alone(tiny_network):
        tiny_network(input_ids=IDS).logits.sum().backward()
    with pytest.raises(RuntimeError, match="an attack has changed the model that it attacks"), left_alone(tiny_network):
        with torch.no_grad():
            next(tiny_network.parameters()).view(-1)[0] += 1


def test_copies_share_nothing_and_train_under_inference_mode(tiny_network: LlamaForCausalLM) -> None:
    tiny_network(input_ids=IDS).logits.sum().backward()
    before = fingerprint(tiny_network)
    with torch.inference_mode():
        twin = throw_away_copy(tiny_network, "the test")
        with torch.inference_mode(False), torch.enable_grad():
            optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
            twin(input_ids=IDS).logits.logsumexp(-1).sum().backward()
            optimizer.step()
    assert fingerprint(tiny_network) == before != fingerprint(twin)
    assert all(weight.grad is not None for weight in tiny_network.parameters())  # its own gradients are its own
    own = {weight.data_ptr() for weight in tensors(tiny_network)}
    assert not own & {weight.data_ptr() for weight in tensors(twin)}


def test_a_network_made_under_inference_mode_has_copies_that_train(tiny_network: LlamaForCausalLM) -> None:
    with torch.inference_mode():
        made = nn.Sequential(nn.Linear(3, 3))
        assert all(weight.is_inference() for weight in made.parameters())
        twin = throw_away_copy(made, "the test")
        with torch.inference_mode(False), torch.enable_grad():
            twin(torch.ones(1, 3)).sum().backward()
    assert all(weight.grad is not None for weight in twin.parameters())


def test_copies_are_in_evaluation_mode_and_tied_as_before(tiny_network: LlamaForCausalLM) -> None:
    tiny_network.train()
    twin: Any = throw_away_copy(tiny_network, "the test")
    assert tiny_network.training and not any(module.training for module in twin.modules())
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    assert twin.lm_head.weight is not tiny_network.lm_head.weight
    assert fingerprint(twin) == fingerprint(tiny_network)


def test_adapters_are_copied_with_what_trains(tiny_network: LlamaForCausalLM) -> None:
    torch.manual_seed(0)
    adapters = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    network: Any = get_peft_model(tiny_network, adapters).eval()
    twin: Any = throw_away_copy(network, "the test")
    trains = [weight.requires_grad for weight in network.parameters()]
    assert any(trains) and [weight.requires_grad for weight in twin.parameters()] == trains
    assert torch.equal(twin(input_ids=IDS).logits, network(input_ids=IDS).logits)
    before = fingerprint(network)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.zero_()
    assert fingerprint(network) == before


def test_split_weights_are_refused_by_name(tiny_network: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "has_split_weights", lambda _: True)
    with pytest.raises(MisconfigurationError, match="X works on a copy of the whole model, whose weights lie in parts"):
        throw_away_copy(tiny_network, "X")
