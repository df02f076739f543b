"""Weights in parts, on a mesh of one process: copies, wholes and sums; two processes are in tests/distributed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import LlamaForCausalLM

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.sharding import (
    SumOverWeights,
    has_split_weights,
    here,
    put_together,
    reshard,
    split_copy,
    split_like,
    split_weights,
    whole,
)

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """One process that splits its weights with nobody."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def logits(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network.eval()(input_ids=IDS, use_cache=False).logits
    return found


def test_whole_weights_are_left_alone(tiny_network: LlamaForCausalLM) -> None:
    weight = tiny_network.lm_head.weight
    assert not has_split_weights(tiny_network)
    assert put_together(tiny_network) is tiny_network
    assert here(weight) is weight and whole(weight) is weight
    assert torch.equal(split_like(torch.ones(3), weight), torch.ones(3))
    reshard(tiny_network)


def test_sums_over_parameters(mesh: DeviceMesh, tiny_network: LlamaForCausalLM) -> None:
    sums = SumOverWeights(2)
    assert sums.total() == [0.0, 0.0]
    plain = torch.full((3,), 2.0)
    sums.add(plain, plain.sum(), 1)
    split_weights(tiny_network, mesh)
    for parameter in tiny_network.parameters():
        sums.add(parameter, here(parameter.detach()).sum(), parameter.numel())
    expected = sum(float(whole(parameter.detach()).double().sum()) for parameter in tiny_network.parameters())
    total, count = sums.total()
    assert total == pytest.approx(6 + expected, rel=1e-5)
    assert count == 1 + sum(parameter.numel() for parameter in tiny_network.parameters())


@pytest.mark.parametrize("lora", [False, True])
def test_copies_of_split_weights(mesh: DeviceMesh, tiny_network: LlamaForCausalLM, lora: bool) -> None:
    network: nn.Module = tiny_network
    if lora:
        network = _add_lora(tiny_network.bfloat16(), LoraSettings(r=2))
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn_like(parameter, dtype=torch.float32) * 0.1
    expected = logits(network)
    kinds = [parameter.dtype for parameter in network.parameters()]
    split_weights(network, mesh)
    split_weights(network, mesh)  # once is enough
    assert has_split_weights(network)
    torch.testing.assert_close(logits(network), expected)
    reshard(network)
    assert all(isinstance(parameter, DTensor) for parameter in network.parameters())
    twin, together = split_copy(network), put_together(network)
    for copied in (twin, together):
        assert [parameter.dtype for parameter in copied.parameters()] == kinds
        torch.testing.assert_close(logits(copied), expected)
    assert not has_split_weights(together)
    with torch.no_grad():
        for parameter in network.parameters():
            here(parameter).zero_()
    torch.testing.assert_close(logits(twin), expected)  # shares no memory


def test_what_cannot_be_built_anew_is_named(mesh: DeviceMesh) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    split_weights(network, mesh)
    with pytest.raises(MisconfigurationError, match="Sequential whose weights are split over processes can be neither"):
        split_copy(network)
    with pytest.raises(MisconfigurationError, match="can be neither copied nor exported"):
        put_together(network)
