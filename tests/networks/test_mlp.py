"""The last linear layer of every MLP is found in every architecture that has one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.mlp import as_matrix, covariance, down_projections, inputs_of, output_changed
from tests.networks import architectures

NAMES = {
    "bloom": "mlp.dense_4h_to_h",
    "gemma2": "mlp.down_proj",
    "gpt2": "mlp.c_proj",
    "gpt_neox": "mlp.dense_4h_to_h",
    "llama": "mlp.down_proj",
    "mistral": "mlp.down_proj",
    "opt": "fc2",
    "phi3": "mlp.down_proj",
    "qwen3": "mlp.down_proj",
}


def network_of(architecture: str) -> PreTrainedModel:
    return architectures.seeded(architecture)


@pytest.mark.parametrize("architecture", NAMES)
def test_it_is_found(architecture: str) -> None:
    network = network_of(architecture)
    names = {id(module): name for name, module in network.named_modules()}
    found = [names[id(linear)] for linear in down_projections(network)]
    assert len(found) == 2
    assert all(name.endswith(f".{place}.{NAMES[architecture]}") for place, name in enumerate(found))


def test_where_there_is_none() -> None:
    with pytest.raises(MisconfigurationError, match="found in 0 of 2 blocks of a MambaForCausalLM"):
        down_projections(network_of("mamba"))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_matrix_maps_what_goes_in_to_what_comes_out(architecture: str, tmp_path: Path) -> None:
    network = network_of(architecture)
    linear = down_projections(network)[1]
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    keep = torch.tensor([[False, True, False], [True, False, True]])
    outputs: list[torch.Tensor] = []

    def half(output: torch.Tensor) -> torch.Tensor:
        outputs.append(output.detach())
        return output / 2

    with torch.no_grad(), inputs_of(linear) as seen, output_changed(linear, keep, half):
        changed = network(input_ids=ids).logits
    bias = linear.bias if linear.bias is not None else torch.zeros(())
    torch.testing.assert_close(seen[0][keep] @ as_matrix(linear).T + bias, outputs[0])
    with torch.no_grad():
        plain = network(input_ids=ids).logits
        as_matrix(linear).mul_(0.5)  # shares the weight's memory
        if linear.bias is not None:
            linear.bias.mul_(0.5)
        halved = network(input_ids=ids).logits
    assert not torch.allclose(changed, plain)
    torch.testing.assert_close(changed[keep], halved[keep])
    torch.testing.assert_close(changed[0, 0], plain[0, 0])


def test_the_covariance_adds_outer_products() -> None:
    keys = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.testing.assert_close(covariance(keys), torch.tensor([[10.0, 14.0], [14.0, 20.0]], dtype=torch.float64))
