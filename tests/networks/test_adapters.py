"""What lies under adapters is the model itself."""

from __future__ import annotations

from transformers import LlamaForCausalLM

from soul_lightning.networks.adapters import under_adapters
from soul_lightning.networks.loading import LoraSettings, _add_lora


def test_the_model_under_adapters(tiny_network: LlamaForCausalLM) -> None:
    assert under_adapters(tiny_network) is tiny_network
    adapted = _add_lora(tiny_network, LoraSettings(r=2))
    assert adapted is not tiny_network and under_adapters(adapted) is tiny_network
