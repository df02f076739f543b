"""Throw-away copies of a model, and the proof that the model itself was left alone."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.sharding import has_split_weights, here


def fingerprint(network: nn.Module) -> str:
    """A hash of every weight and buffer, and what else a layer saves; names, types and shapes included.

    Args:
        network: Of weights that lie in parts on several processes the parts here are meant.

    Returns:
        32 hexadecimal digits.
    """
    every = {**dict(network.named_parameters(remove_duplicate=False)), **dict(network.named_buffers())}
    saved = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    beside = {name: value for name, value in saved.items() if name not in every}  # such as the scales of 4-bit layers
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted({**dict(network.named_parameters()), **dict(network.named_buffers()), **beside}.items()):
        part = here(tensor.detach()).cpu().contiguous()
        found.update(f"{name} {part.dtype} {tuple(part.shape)}\n".encode())
        found.update(part.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


@contextmanager
def left_alone(network: nn.Module) -> Iterator[None]:
    """Whatever happens inside, the weights of `network` are the same afterwards.

    Raises:
        RuntimeError: They are not: a fault of the attack, whose numbers must not be believed.
    """
    before = fingerprint(network)
    yield
    after = fingerprint(network)
    if after != before:
        raise RuntimeError(f"an attack has changed the model that it attacks (hash {before}, now {after})")


def throw_away_copy(network: nn.Module, caller: str) -> nn.Module:
    """The network once more, in evaluation mode, every weight in memory of its own.

    Args:
        network: The model that is attacked; also under `Trainer.test`, whose inference tensors no gradient reaches.
        caller: Who wants it, for the error.

    Raises:
        MisconfigurationError: The weights lie in parts on several processes.
    """
    refuse_split_weights(network, caller)
    with torch.inference_mode(False):
        twin = copy.deepcopy(network)
    for parameter in twin.parameters():
        parameter.grad = None
    return twin.eval()


def refuse_split_weights(network: nn.Module, caller: str) -> None:
    """Check that the network can be copied.

    Args:
        network: The model that is attacked.
        caller: Who wants a copy, for the error.

    Raises:
        MisconfigurationError: The weights lie in parts on several processes.
    """
    if has_split_weights(network):
        raise MisconfigurationError(
            f"{caller} works on a copy of the whole model, whose weights lie in parts on several processes here; "
            f"attack the exported model, with `soul-lightning audit` or on one device"
        )
