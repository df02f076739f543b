"""The losses of an optimizer step: which rows go through the network together, and what their sums are divided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from soul_lightning.modules.terms import TermPart
from soul_lightning.networks.joint import Request
from soul_lightning.protocols import Batch
from soul_lightning.sharding import has_split_weights

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


def micro_batches(module: StreamModule, batch: Batch) -> list[Batch]:
    """A batch in the module's micro-batches; of split weights every process runs as many passes as the others."""
    parts = list(batch.split(module.micro_batches))
    if has_split_weights(module.network):
        nothing = parts[0].rows(parts[0].index.new_zeros(1)).without_labels()
        parts += [nothing] * (module.micro_batches - len(parts))
    return parts


def evenly_spaced(batches: Sequence[Batch], most: int) -> list[Batch]:
    """So many of the batches: streams are read longest first, so that the first ones would be the longest."""
    if len(batches) <= most:
        return list(batches)
    return [batches[place] for place in torch.linspace(0, len(batches) - 1, most).round().int().tolist()]


def count_units(module: StreamModule, parts: Mapping[str, list[Batch]]) -> tuple[dict[str, float], int]:
    """Units of each term, and rows with a label, over all micro-batches and ranks.

    Args:
        module: Whose terms are counted for.
        parts: Micro-batches of each stream.
    """
    rows, counts = 0, []
    for term in module.terms:
        batches = module.stream_parts(parts, term.stream)
        objective = term.objective
        rows += sum(batch.labelled_sequences for batch in batches)
        counts.append(sum(objective.count(batch.seen_as(objective.views)) for batch in batches))
    all_counts = torch.tensor([rows, *counts], dtype=torch.float64, device=module.device)
    all_rows, *totals = module.sum_over_ranks(all_counts).tolist()
    return {term.stream: total for term, total in zip(module.terms, totals, strict=True)}, int(all_rows)


def summed_losses(module: StreamModule, parts: Sequence[TermPart]) -> list[Tensor]:
    """Each part's loss summed over its units, without its weight; one forward pass serves all that can share it.

    Args:
        module: Whose network and references are asked.
        parts: Micro-batches, some perhaps with what the network says about them.
    """
    objectives = [part.term.objective for part in parts]
    seen = [part.batch.seen_as(objective.views) for part, objective in zip(parts, objectives, strict=True)]
    said = {place: part.predictions for place, part in enumerate(parts) if part.predictions is not None}
    asked = [place for place in range(len(parts)) if place not in said]
    requests = [
        Request(seen[place], objectives[place].hidden_layer, "every_position" in objectives[place].views)
        for place in asked
    ]
    said |= dict(zip(asked, module.predict(requests), strict=True))
    return [
        objective.summed(said[place], module.references(module, part.term.stream, objective, seen[place]))
        for place, (part, objective) in enumerate(zip(parts, objectives, strict=True))
    ]
