"""The linear layers of a network: what is rounded, and what is pruned."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

Linear = nn.Linear | Conv1D
"""A linear layer, or GPT-2's, whose weight is transposed."""


def linear_layers(network: nn.Module) -> Iterator[tuple[str, Linear]]:
    """The linear layers by name, without the output head and without any whose weight is that of embeddings.

    Args:
        network: Its head is what `get_output_embeddings` gives; a head of its own that it does not name counts as any
            other layer.
    """
    find_head = getattr(network, "get_output_embeddings", None)
    head = find_head() if callable(find_head) else None
    spared = {id(module.weight) for module in network.modules() if isinstance(module, nn.Embedding) or module is head}
    for name, module in network.named_modules():
        if isinstance(module, Linear) and module.weight.numel() and id(module.weight) not in spared:
            spared.add(id(module.weight))  # a weight that two layers share is there once
            yield name, module
