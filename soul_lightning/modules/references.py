"""The reference models of a run: one policy for each stream whose objective compares with c."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Reference
from soul_lightning.networks.reference import (
    AdaptersOff,
    FrozenCopy,
    ReferencePolicy,
    ReferencePolicyName,
    choose_policy,
    trained_adapter,
)
from soul_lightning.networks.reference_cache import CachedLogProbs, TopKLogits
from soul_lightning.objectives.base import Objective
from soul_lightning.progress import Advance, counted
from soul_lightning.protocols import Batch, SuppliesSizes, SuppliesStreams

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


class StreamReferences:
    """Fixes c before the first step, and brings it back when an interrupted run goes on.

    Args:
        policy: The user's choice of policy.
        top_k: Tokens kept at each position by `top_k_logits`.
    """

    def __init__(self, policy: ReferencePolicyName, top_k: int) -> None:
        if top_k < 1:
            raise MisconfigurationError(f"reference_top_k counts tokens of a position and must be >= 1, got {top_k}")
        self._choice = policy
        self._top_k = top_k
        self._policies: dict[str, ReferencePolicy] = {}
        self._stored: dict[str, Any] = {}

    def fix(self, module: StreamModule) -> None:
        """Make the policies anew, for the model as it now is, or as a checkpoint remembers it.

        Raises:
            MisconfigurationError: The model has moved, and the checkpoint holds no reference, or one kept otherwise.
        """
        self._policies = {}
        for term in module.terms:
            if term.objective.reference == "none":
                continue
            name = choose_policy(term.objective.reference, module.network, self._choice, term.objective.views)
            has_moved = module.global_step > 0 and name != "adapters_off"
            if has_moved and term.stream not in self._stored:
                raise MisconfigurationError(
                    f"the checkpoint at step {module.global_step} holds no reference for the {term.stream} objective "
                    f"{type(term.objective).__name__}, and the model has moved since; train from the first step, or "
                    f"go on from a checkpoint of a run with that objective"
                )
            policy = self._make(name, module, term.stream, term.objective)
            self._policies[term.stream] = policy
            rank_zero_info(f"reference of the {term.stream} stream: {policy.name}")
        for stream, stored in self._stored.items():
            if stream not in self._policies:
                continue
            if stored["policy"] != self._policies[stream].name:
                raise MisconfigurationError(
                    f"the checkpoint keeps the reference of the {stream} stream as {stored['policy']!r}, and the run "
                    f"asks for {self._policies[stream].name!r}; set reference_policy to what the checkpoint has"
                )
            self._policies[stream].restore(stored["state"])
        self._stored = {}

    def _make(self, name: str, module: StreamModule, stream: str, objective: Objective) -> ReferencePolicy:
        if name == "adapters_off":
            trained = trained_adapter(module.network) if module.global_step == 0 else None
            if trained is not None:
                raise MisconfigurationError(
                    f"with the adapters off, the model is not the one that training starts from ({trained} is not 0): "
                    f"what the adapter was to hide would leak in; merge it first (network.adapter), or set "
                    f"reference_policy to 'frozen_copy'"
                )
            return AdaptersOff(objective.hidden_layer)
        if name == "frozen_copy":
            return self._frozen_copy(module, objective)
        supplier = getattr(module.trainer, "datamodule", None)
        if not isinstance(supplier, SuppliesStreams):
            rank_zero_warn(
                f"{type(supplier).__name__} has no stream() to compute the reference from; a frozen copy is kept"
            )
            return self._frozen_copy(module, objective)
        # After a resume the stored values follow, and those of the present weights would be thrown away.
        batches: Iterable[Batch] = () if stream in self._stored else supplier.stream(stream)
        size = supplier.stream_sizes().get(stream) if isinstance(supplier, SuppliesSizes) else None
        rows = size.rows if size is not None else None
        with (
            counted(f"caching the reference of {stream}", rows, "rows") as advance,
            module.trainer.precision_plugin.forward_context(),
        ):
            seen = _seen(batches, module.device, objective, advance)
            if name == "cached_log_probs":
                return CachedLogProbs(module.network, seen)
            return TopKLogits(module.network, seen, self._top_k)

    def _frozen_copy(self, module: StreamModule, objective: Objective) -> FrozenCopy:
        """One copy for all streams."""
        copies = (policy for policy in self._policies.values() if isinstance(policy, FrozenCopy))
        return FrozenCopy(next(copies, module.network), objective.hidden_layer)

    def expected_bytes(self, module: StreamModule, data: SuppliesStreams) -> int:
        """What the policies will hold in memory.

        Args:
            module: Whose network trains.
            data: Gives the streams that values are cached of.
        """
        policies = {
            term.stream: choose_policy(term.objective.reference, module.network, self._choice, term.objective.views)
            for term in module.terms
            if term.objective.reference != "none"
        }
        total = 0
        if "frozen_copy" in policies.values():
            total = sum(tensor.nbytes for tensor in (*module.network.parameters(), *module.network.buffers()))
        each = {"cached_log_probs": 4, "top_k_logits": 4 + 8 * self._top_k}  # bytes a labelled token
        for term in module.terms:
            if policies.get(term.stream) in each:
                batches = (batch.seen_as(term.objective.views) for batch in data.stream(term.stream))
                texts = (text for batch in batches for text in (batch, *batch.alternatives.values()))
                total += each[policies[term.stream]] * sum(text.labelled_tokens for text in texts)
        return total

    def __call__(self, module: StreamModule, stream: str, objective: Objective, batch: Batch) -> Reference | None:
        """What c says about `batch`, where the objective asks for it.

        Args:
            module: Whose network trains.
            stream: The batch's stream.
            objective: The stream's objective.
            batch: The rows, as the objective sees them.
        """
        policy = self._policies.get(stream)
        return policy(module.network, batch) if policy is not None and objective.reference != "none" else None

    def state_dict(self) -> dict[str, Any]:
        """What each policy needs after a resume, as plain tensors."""
        return {stream: {"policy": policy.name, "state": policy.state()} for stream, policy in self._policies.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep it until training goes on."""
        self._stored = state


def _seen(batches: Iterable[Batch], device: torch.device, objective: Objective, advance: Advance) -> Iterator[Batch]:
    """The batches where the model is, as the objective sees them."""
    for batch in batches:
        yield batch.to(device).seen_as(objective.views)
        advance(len(batch))
