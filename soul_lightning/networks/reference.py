"""The reference model c, as a policy: how what it says is kept at hand while θ moves away from it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.protocols import Batch
from soul_lightning.sharding import has_split_weights, reshard, split_copy, split_like, whole

ReferencePolicyName = Literal["auto", "cached_log_probs", "top_k_logits", "frozen_copy", "adapters_off"]
"""`auto` takes `adapters_off` under LoRA, `cached_log_probs` where they suffice, else `frozen_copy`. `top_k_logits`
keeps the likeliest tokens of each position in place of a second model, see `TopKLogits` for its error."""


class ReferencePolicy(ABC):
    """Gives, for any batch of its stream, what the model said before training, in evaluation mode."""

    name: str

    @abstractmethod
    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """The reference at the labelled positions of `batch` and of its alternatives; no gradient."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold so that a resumed run never asks θ in place of c: tensors only."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        del state


class FrozenCopy(ReferencePolicy):
    """A second copy of the model, frozen: whole distributions, at the price of its memory and a forward pass.

    Args:
        network: The model before training, or a frozen copy of it that is shared.
        hidden_layer: Give the hidden states behind this many blocks too.
    """

    name = "frozen_copy"

    def __init__(self, network: nn.Module | FrozenCopy, hidden_layer: int | None = None) -> None:
        self._network: nn.Module = network._network if isinstance(network, FrozenCopy) else _frozen(network)
        self._hidden_layer = hidden_layer

    @torch.no_grad()
    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """Ask the copy."""
        return as_reference(label_predictions(self._network, batch, self._hidden_layer))

    def state(self) -> dict[str, Any]:
        """The copy's weights; every process must call it where they are split."""
        reshard(self._network)
        return {name: whole(value) for name, value in self._network.state_dict().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Load the weights of c; the network they were copied from has moved on."""
        reshard(self._network)
        targets = self._network.state_dict()
        self._network.load_state_dict({name: split_like(value, targets[name]) for name, value in state.items()})


def _frozen(network: nn.Module) -> nn.Module:
    twin = split_copy(network) if has_split_weights(network) else copy.deepcopy(network)
    return twin.eval().requires_grad_(False)


@runtime_checkable
class _HasAdapters(Protocol):
    def disable_adapter(self) -> AbstractContextManager[None]: ...


class AdaptersOff(ReferencePolicy):
    """The same weights with the LoRA adapters off: no second copy. A starting adapter was merged at loading.

    Args:
        hidden_layer: Give the hidden states behind this many blocks too.
    """

    name = "adapters_off"

    def __init__(self, hidden_layer: int | None = None) -> None:
        self._hidden_layer = hidden_layer

    @torch.no_grad()
    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """Ask the network without its adapters."""
        if not isinstance(network, _HasAdapters):
            raise MisconfigurationError(
                "the reference policy 'adapters_off' needs a LoRA network; set network.lora, or choose 'frozen_copy'"
            )
        # PEFT switches every adapter weight to training when the adapters come back, frozen ones too.
        trains = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
        try:
            with evaluation_mode(network), network.disable_adapter():
                return as_reference(label_predictions(network, batch, self._hidden_layer))
        finally:
            for parameter, wanted in trains:
                parameter.requires_grad_(wanted)


def trained_adapter(network: nn.Module) -> str | None:
    """The name of an adapter weight that makes a LoRA network differ from its base model; none where nothing does."""
    factors = ((name, whole(parameter.detach())) for name, parameter in network.named_parameters() if "lora_B" in name)
    return next((name for name, values in factors if bool(values.any())), None)


def as_reference(predictions: Predictions) -> Reference:
    """What an objective may read of c, from c's predictions."""
    return Reference(
        predictions.log_probs,
        predictions.logits,
        predictions.hidden,
        {view: as_reference(other) for view, other in predictions.alternatives.items()},
    )


def choose_policy(
    need: str, network: nn.Module, policy: ReferencePolicyName = "auto", views: Sequence[str] = ("answer",)
) -> ReferencePolicyName:
    """The policy that serves an objective's need at the least cost.

    Args:
        need: `Objective.reference`: `log_probs`, `logits` or `hidden`.
        network: The network that trains.
        policy: The user's choice; `auto` decides.
        views: `Objective.views`.

    Raises:
        MisconfigurationError: The chosen policy cannot serve the need.
    """
    if policy == "auto":
        if isinstance(network, _HasAdapters):
            return "adapters_off"
        return "cached_log_probs" if need == "log_probs" else "frozen_copy"
    kept = {"cached_log_probs": ("log_probs",), "top_k_logits": ("log_probs", "logits")}
    if need not in kept.get(policy, (need,)):
        raise MisconfigurationError(
            f"reference_policy {policy!r} keeps {' and '.join(kept[policy])}, and the objective reads {need}; "
            f"choose 'frozen_copy' or, with LoRA, 'adapters_off'"
        )
    if policy in kept and "every_position" in views:
        raise MisconfigurationError(
            f"reference_policy {policy!r} keeps labelled positions, and the objective reads the padding of each batch "
            f"too; choose 'frozen_copy' or, with LoRA, 'adapters_off'"
        )
    return policy
