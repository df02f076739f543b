"""The reference model c, as a policy: how what it says is kept at hand while θ moves away from it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Reference, predicting_positions
from soul_lightning.protocols import Batch

ReferencePolicyName = Literal["auto", "cached_log_probs", "frozen_copy", "adapters_off"]
"""`auto` takes `adapters_off` under LoRA, `frozen_copy` for whole distributions, else `cached_log_probs`."""


class ReferencePolicy(ABC):
    """Gives, for any batch of its stream, what the model said before training, in evaluation mode."""

    name: str

    @abstractmethod
    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """The reference at the labelled positions of `batch`; no gradient."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold so that a resumed run never asks θ in place of c: tensors only."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        del state


class CachedLogProbs(ReferencePolicy):
    """Label log-probs, computed once before the first step and kept by example index.

    Args:
        network: The model before training.
        batches: Every batch of the stream once.
    """

    name = "cached_log_probs"

    def __init__(self, network: nn.Module, batches: Iterable[Batch]) -> None:
        self._rows: dict[int, Tensor] = {}
        with evaluation_mode(network), torch.no_grad():
            for batch in batches:
                predictions = label_predictions(network, batch)
                sizes = predictions.tokens_per_row.tolist()
                for index, row in zip(batch.index.tolist(), predictions.log_probs.cpu().split(sizes), strict=True):
                    self._rows[index] = row.clone()

    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """Look the rows up; those of the batch that carry no label have nothing to compare."""
        labelled = predicting_positions(batch.labels).any(dim=1)
        rows = [self._rows[index] for index in batch.index[labelled].tolist()]
        joined = torch.cat(rows) if rows else torch.empty(0)
        return Reference(joined.to(batch.input_ids.device))

    def state(self) -> dict[str, Any]:
        """The cache as three tensors."""
        return {
            "index": torch.tensor(list(self._rows), dtype=torch.int64),
            "lengths": torch.tensor([len(row) for row in self._rows.values()], dtype=torch.int64),
            "log_probs": torch.cat([*self._rows.values(), torch.empty(0)]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take the cache of an earlier process, in place of one computed from a θ that has moved."""
        rows = state["log_probs"].split(state["lengths"].tolist())
        self._rows = dict(zip(state["index"].tolist(), rows, strict=True))


class FrozenCopy(ReferencePolicy):
    """A second copy of the model, frozen: whole distributions, at the price of its memory and a forward pass.

    Args:
        network: The model before training.
    """

    name = "frozen_copy"

    def __init__(self, network: nn.Module) -> None:
        self._network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """Ask the copy."""
        predictions = label_predictions(self._network, batch)
        return Reference(predictions.log_probs, predictions.logits)

    def state(self) -> dict[str, Any]:
        """The copy's weights."""
        return dict(self._network.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Load the weights of c; the network they were copied from has moved on."""
        self._network.load_state_dict(state)


@runtime_checkable
class _HasAdapters(Protocol):
    def disable_adapter(self) -> AbstractContextManager[None]: ...


class AdaptersOff(ReferencePolicy):
    """The same weights with the LoRA adapters off: no second copy. A starting adapter was merged at loading."""

    name = "adapters_off"

    @torch.no_grad()
    def __call__(self, network: nn.Module, batch: Batch) -> Reference:
        """Ask the network without its adapters."""
        if not isinstance(network, _HasAdapters):
            raise MisconfigurationError(
                "the reference policy 'adapters_off' needs a LoRA network; set network.lora, or choose 'frozen_copy'"
            )
        with evaluation_mode(network), network.disable_adapter():
            predictions = label_predictions(network, batch)
        return Reference(predictions.log_probs, predictions.logits)


def choose_policy(need: str, network: nn.Module, policy: ReferencePolicyName = "auto") -> ReferencePolicyName:
    """The policy that serves an objective's need at the least cost.

    Args:
        need: `Objective.reference`: `log_probs` or `logits`.
        network: The network that trains.
        policy: The user's choice; `auto` decides.

    Raises:
        MisconfigurationError: The chosen policy cannot serve the need.
    """
    if policy == "auto":
        if isinstance(network, _HasAdapters):
            return "adapters_off"
        return "frozen_copy" if need == "logits" else "cached_log_probs"
    if policy == "cached_log_probs" and need == "logits":
        raise MisconfigurationError(
            "reference_policy 'cached_log_probs' keeps label log-probs only, and the objective compares whole "
            "distributions; choose 'frozen_copy' or, with LoRA, 'adapters_off'"
        )
    return policy
