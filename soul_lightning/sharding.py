"""Weights that lie in parts on several processes (FSDP2): the part that is here, the whole, and sums over all parts."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, distribute_tensor
from transformers import PreTrainedModel

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.adapters import under_adapters


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
    blocks = set(getattr(under_adapters(network), "_no_split_modules", None) or ())
    for module in list(network.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(network, mesh=mesh)


def reshard(network: nn.Module) -> None:
    """Let go of weights that a forward pass without a backward pass left whole: `parameters()` are the parts again.

    Args:
        network: A network, or a module that holds one.
    """
    for module in network.modules():
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


def refuse_foreign(network: nn.Module) -> None:
    """Check that a network whose weights are split could be built anew.

    Raises:
        MisconfigurationError: It is neither a Hugging Face model nor one with adapters.
    """
    if not isinstance(network, PreTrainedModel) and not isinstance(getattr(network, "peft_config", None), Mapping):
        raise MisconfigurationError(
            f"a {type(network).__name__} whose weights are split over processes can be neither copied nor exported; "
            f"train a Hugging Face model, with or without LoRA, or use ddp"
        )


def _empty_twin(network: nn.Module) -> nn.Module:
    """A model of the same class and configuration, adapters included, without memory for its weights."""
    refuse_foreign(network)
    if isinstance(network, PreTrainedModel):
        with torch.device("meta"):  # and fully_shard's subclass makes an object of the class it came from
            twin: PreTrainedModel = type(network)(copy.deepcopy(network.config))
        twin.generation_config = network.generation_config
        return twin
    from peft import PeftModel, get_peft_model

    assert isinstance(network, PeftModel)
    (settings,) = network.peft_config.values()
    base = _empty_twin(network.get_base_model())
    with torch.device("meta"):
        adapted: nn.Module = get_peft_model(base, copy.deepcopy(settings))
    return adapted


def put_together(network: nn.Module) -> nn.Module:
    """The network, or where its weights are split a copy on the CPU; every process must call it.

    The first process alone gets the copy, the others a network without weights. What one process holds by itself on a
    CPU is shared, not copied.

    Raises:
        MisconfigurationError: The weights are split, and it is neither a Hugging Face model nor one with adapters.
    """
    if not has_split_weights(network):
        return network
    twin = _empty_twin(network)
    weights = get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if weights:
        twin.load_state_dict(weights, assign=True)
        _tie(twin)
        for name, buffer in network.named_buffers():
            if name in weights:
                continue
            module, _, own_name = name.rpartition(".")  # of rotary frequencies, which no state dict has
            twin.get_submodule(module).register_buffer(own_name, buffer.detach().cpu().clone(), persistent=False)
    return twin


@torch.no_grad()
def split_copy(network: nn.Module) -> nn.Module:
    """A copy of a network whose weights are split, split alike; every process must call it.

    Raises:
        MisconfigurationError: It is neither a Hugging Face model nor one with adapters.
    """
    reshard(network)
    twin = _empty_twin(network)
    parameter = next(network.parameters())
    assert isinstance(parameter, DTensor)
    for empty, given in zip(twin.parameters(), network.parameters(), strict=True):
        empty.data = empty.data.to(given.dtype)  # a configuration does not say it of each weight
    split_weights(twin, parameter.device_mesh)
    twin.to_empty(device=parameter.to_local().device)
    _tie(twin)
    for own, other in ((twin.parameters(), network.parameters()), (twin.buffers(), network.buffers())):
        for target, source in zip(own, other, strict=True):
            here(target).copy_(here(source))
    return twin


def _tie(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, PreTrainedModel):
            module.tie_weights()
