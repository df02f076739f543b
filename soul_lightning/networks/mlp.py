"""The last linear layer of every block's MLP: where it is, what goes into it, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.adapters import under_adapters
from soul_lightning.networks.blocks import repeated_blocks
from soul_lightning.networks.linear_layers import Linear

_OTHER_PARTS = ("attn", "attention", "mixer", "ssm", "mamba")
"""In the names of a block's parts that are no MLP."""


def down_projections(network: nn.Module) -> list[Linear]:
    """The last linear layer of each block's MLP, block by block.

    It is the last that a block has outside of its attention, as wide as the blocks' states.

    Args:
        network: A causal language model whose weights train.

    Raises:
        MisconfigurationError: There is none, or its weights do not train.
    """
    inner = under_adapters(network)
    blocks = repeated_blocks(inner)
    width = getattr(getattr(inner, "config", None), "hidden_size", None)
    found: list[Linear] = []
    for block in blocks:
        linears = [
            module
            for name, module in block.named_modules()
            if isinstance(module, Linear) and not any(part in name.lower() for part in _OTHER_PARTS)
        ]
        if linears and linears[-1].weight.shape[_output_dimension(linears[-1])] == width:
            found.append(linears[-1])
    if not found or len(found) < len(blocks):
        raise MisconfigurationError(
            f"the last linear layer of an MLP is to be edited, and it is found in {len(found)} of {len(blocks)} blocks "
            f"of a {type(inner).__name__}; take a model whose blocks each have one of the width of their states"
        )
    if inner is not network or not all(linear.weight.requires_grad for linear in found):
        raise MisconfigurationError(
            "the last linear layer of an MLP is to be edited, and its own weight must train; leave out network.lora"
        )
    return found


def as_matrix(linear: Linear) -> Tensor:
    """The weight as [outputs, inputs]; shares its memory."""
    return linear.weight.detach().T if isinstance(linear, Conv1D) else linear.weight.detach()


def _output_dimension(linear: Linear) -> int:
    return 1 if isinstance(linear, Conv1D) else 0


@contextmanager
def inputs_of(linear: Linear) -> Iterator[list[Tensor]]:
    """Inside, what goes into `linear` in each pass is appended to the list: [batch, tokens, inputs], detached."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(args[0].detach())

    hook = linear.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def output_changed(linear: Linear, keep: Tensor, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside, `change` is made to what comes out of `linear` at the positions `keep`.

    Args:
        linear: The layer.
        keep: [batch, tokens] boolean.
        change: From [kept, outputs] to [kept, outputs], in row order.
    """

    def put(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output.masked_scatter(keep[..., None], change(output[keep]).to(output.dtype))

    hook = linear.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()


def covariance(inputs: Tensor) -> Tensor:
    """Σ k kᵀ of [rows, inputs] keys, in float64: [inputs, inputs]."""
    keys = inputs.double()
    return torch.mm(keys.T, keys)
