"""Weights that lie in parts on several processes (FSDP2): the part that is here, the whole, and sums over all parts."""

from __future__ import annotations

import copy
from collections.abc import Hashable

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, distribute_tensor
from transformers import PreTrainedModel

from soul_lightning.exceptions import MisconfigurationError


def has_split_weights(network: nn.Module) -> bool:
    """Whether the weights of `network` lie in parts on several processes (FSDP2, tensor parallelism)."""
    # After a forward pass FSDP2 leaves the weights of its root whole until the next backward pass.
    return any(isinstance(module, FSDPModule) for module in network.modules()) or any(
        isinstance(parameter, DTensor) for parameter in network.parameters()
    )


def split_weights(network: nn.Module, mesh: DeviceMesh) -> None:
    """Split the weights of `network` over the processes of `mesh` (FSDP2), block by block; once.

    Args:
        network: A causal language model. The blocks are those that transformers keeps together on one device.
        mesh: One-dimensional.
    """
    if isinstance(network, FSDPModule):
        return
    base = getattr(network, "get_base_model", None)  # a network with adapters
    inner = base() if callable(base) else network
    blocks = set(getattr(inner, "_no_split_modules", None) or ())
    for module in list(network.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def reshard(network: nn.Module) -> None:
    """Let go of weights that a forward pass without a backward pass left whole: `parameters()` are the parts again."""
    for module in network.modules() if isinstance(network, FSDPModule) else ():
        if isinstance(module, FSDPModule):
            module.reshard()


def here(tensor: Tensor) -> Tensor:
    """The part of `tensor` that lies on this process; shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of `tensor`; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same on every process, split as `like` is; every process must call it."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    return distribute_tensor(tensor.to(like.to_local().device), like.device_mesh, like.placements)


class SumOverWeights:
    """Adds up numbers over parameters, each in parts or whole, without a wait for the device until `total`.

    Args:
        size: How many numbers.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._sums: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def add(self, parameter: Tensor, *values: Tensor | float) -> None:
        """Add what the part of `parameter` on this process amounts to.

        Args:
            parameter: The parameter.
            *values: Scalars.
        """
        like = here(parameter)
        stacked = torch.stack([torch.as_tensor(value, device=like.device).double() for value in values])
        key: Hashable = like.device
        if isinstance(parameter, DTensor):
            key = (parameter.device_mesh, parameter.placements)
        found = self._sums.get(key)
        self._sums[key] = (parameter, stacked if found is None else found[1] + stacked)

    def total(self) -> list[float]:
        """The sums over all parameters and their parts; every process must call it."""
        totals = torch.zeros(self._size, dtype=torch.float64)
        for parameter, sums in self._sums.values():
            if isinstance(parameter, DTensor):
                placements: list[Placement] = [Partial() if p.is_shard() else Replicate() for p in parameter.placements]
                sums = DTensor.from_local(sums, parameter.device_mesh, placements).full_tensor()
            totals += sums.cpu()
        found: list[float] = totals.tolist()
        return found


def empty_like(network: PreTrainedModel) -> PreTrainedModel:
    """A model of the same class and configuration without memory for its weights."""
    with torch.device("meta"):  # and fully_shard's subclass makes an object of the class it came from
        twin: PreTrainedModel = type(network)(copy.deepcopy(network.config))
    return twin


def put_together(network: nn.Module) -> nn.Module:
    """A copy of a network whose weights are split, on the CPU; every process must call it, and the first alone gets it.

    The others get the network without weights.
    """
    assert isinstance(network, PreTrainedModel)
    weights = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    twin = empty_like(network)
    if weights:
        twin.load_state_dict(weights, assign=True)
        twin.tie_weights()
    twin.generation_config = network.generation_config
    return twin


@torch.no_grad()
def split_copy(network: nn.Module) -> PreTrainedModel:
    """A copy of a network whose weights are split, split alike; every process must call it.

    Raises:
        MisconfigurationError: It is no plain Hugging Face model.
    """
    if not isinstance(network, PreTrainedModel):
        raise MisconfigurationError(
            f"a {type(network).__name__} whose weights are split over processes cannot be copied as a reference; "
            f"with LoRA set reference_policy to 'adapters_off', else train a plain Hugging Face model, or use ddp"
        )
    reshard(network)
    twin = empty_like(network)
    parameter = next(network.parameters())
    assert isinstance(parameter, DTensor)
    split_weights(twin, parameter.device_mesh)
    twin.to_empty(device=parameter.to_local().device)
    twin.tie_weights()
    for own, other in ((twin.parameters(), network.parameters()), (twin.buffers(), network.buffers())):
        for target, source in zip(own, other, strict=True):
            here(target).copy_(here(source))
    return twin
