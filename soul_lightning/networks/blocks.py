"""What is done to each block of a network: activations recomputed in the backward pass, code compiled."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn
from torch._functorch import config as functorch_config
from transformers import PreTrainedModel

from soul_lightning.exceptions import MisconfigurationError


def checkpoint_blocks(network: PreTrainedModel) -> None:
    """Keep each block's input alone, and run the block again in the backward pass.

    The form without reentrant autograd: gradients reach adapters behind frozen embeddings, a graph can be gone through
    twice and differentiated twice, and dropout draws the same numbers again.

    Raises:
        MisconfigurationError: The architecture cannot.
    """
    # Renamed in transformers 5.24; the old name goes with version 6.
    new = hasattr(network, "activation_checkpointing_enable")
    enable = network.activation_checkpointing_enable if new else network.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise MisconfigurationError(
            f"network.gradient_checkpointing: {type(network).__name__} does not support it; leave it out, and raise "
            f"micro_batches for less memory"
        ) from error


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network repeats: members of the outermost `ModuleList`s that hold several of one class."""
    found: list[nn.Module] = []
    for child in network.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1 and len({type(block) for block in child}) == 1:
            found.extend(child)
        else:
            found.extend(repeated_blocks(child))
    return found


def compile_blocks(network: nn.Module) -> None:
    """Compile each repeated block in place, at its first use; all blocks share what is compiled.

    Names of weights, hooks on the head and exports stay as they are.

    Raises:
        MisconfigurationError: There is no repeated block, or no compiler.
    """
    blocks = repeated_blocks(network)
    if not blocks:
        raise MisconfigurationError(
            f"network.compile compiles repeated blocks, and {type(network).__name__} has none; leave it out"
        )
    compiler = os.environ.get("CXX", "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise MisconfigurationError(
            f"network.compile needs a C++ compiler on a CPU, and there is no {compiler!r}; install one, or name it in "
            f"the environment variable CXX"
        )
    # A curvature refresh goes through the last micro-batch's graph, and the loss goes through it again: what is saved
    # for the backward pass must not be written over. There is no public name for this.
    functorch_config.donated_buffer = False
    for block in blocks:
        block.compile(dynamic=True)  # rows differ in length: one compilation for all shapes
