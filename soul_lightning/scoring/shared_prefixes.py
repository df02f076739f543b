"""Rows that begin alike: what they share is run once, and each of them goes on from its keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.cache_utils import DynamicLayer

from soul_lightning.encoding import EncodedExample, collate
from soul_lightning.metrics.token_statistics import TokenStatistics, token_statistics
from soul_lightning.networks.forward import head_sees_only
from soul_lightning.networks.predictions import Predictions, predicting_positions
from soul_lightning.scoring.generation import cache_argument, consists_of

LEAST_SHARED_TOKENS = 8
"""A shorter beginning is not worth a forward pass of its own."""


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Rows with one beginning.

    Attributes:
        tokens: How many first tokens they share; 0: one row that is scored whole.
        places: The places of the rows among those that are scored.
        longest: Tokens of the longest row, the prefix included.
    """

    tokens: int
    places: Sequence[int]
    longest: int


def prefix_groups(rows: Sequence[EncodedExample], most_tokens: int) -> list[PrefixGroup]:
    """Group rows of one prompt by all that they share, the beginnings of their answers included.

    Args:
        rows: Rows with at least one label each.
        most_tokens: Tokens of a group, its rows counted whole and padded; larger ones are cut.

    Returns:
        Groups of at least two rows, whose prefix leaves each of them a labelled token; the other rows by themselves.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        by_prompt.setdefault(tuple(row.input_ids[: row.prompt_tokens].tolist()), []).append(place)
    groups = []
    for places in by_prompt.values():
        lengths = [len(rows[place]) for place in places]
        beginnings = torch.stack([rows[place].input_ids[: min(lengths) - 1] for place in places])
        shared = int((beginnings == beginnings[0]).all(dim=0).int().cumprod(dim=0).sum())
        at_once = max(1, most_tokens // max(lengths)) if shared >= LEAST_SHARED_TOKENS else 1
        for part in (places[start : start + at_once] for start in range(0, len(places), at_once)):
            groups.append(PrefixGroup(shared if len(part) > 1 else 0, part, max(len(rows[place]) for place in part)))
    return groups


@torch.no_grad()
def prefixed_statistics(
    network: nn.Module, rows: Sequence[EncodedExample], groups: Sequence[PrefixGroup], pad_token_id: int
) -> dict[int, TokenStatistics] | None:
    """What `network` says of each labelled token: equal to a pass over whole rows up to rounding.

    Args:
        network: A causal language model in evaluation mode.
        rows: All rows that are scored.
        groups: Groups of a batch, each with a prefix.
        pad_token_id: Fills the batches; never seen.

    Returns:
        Statistics on the device of the network by the places of the rows; none where the network takes no keys and
        values, or keeps what cannot be copied row by row.
    """
    argument = cache_argument(network)
    if argument is None:
        return None
    device = next(network.parameters()).device
    firsts = [rows[group.places[0]] for group in groups]
    prefixes = collate(
        [
            EncodedExample(row.input_ids[: group.tokens], row.prompt_tokens, number)
            for number, (row, group) in enumerate(zip(firsts, groups, strict=True))
        ],
        pad_token_id,
    ).to(device)
    with head_sees_only(network, predicting_positions(prefixes.labels)):
        output = network(input_ids=prefixes.input_ids, attention_mask=prefixes.attention_mask, use_cache=True)
    cache = getattr(output, argument)
    if not consists_of(cache, DynamicLayer):
        return None
    shared = token_statistics(Predictions.from_logits(output.logits, prefixes.labels))

    # The last shared token is run again in each row, to predict what follows it there, and is not seen twice.
    rests = collate(
        [
            EncodedExample(rows[place].input_ids[group.tokens - 1 :], 1, number)
            for number, group in enumerate(groups)
            for place in group.places
        ],
        pad_token_id,
    ).to(device)
    cache.batch_select_indices(rests.index)
    seen = prefixes.attention_mask.sum(dim=1, keepdim=True)[rests.index] - 1
    before = torch.arange(prefixes.input_ids.shape[1], device=device) < seen
    with head_sees_only(network, predicting_positions(rests.labels)):
        output = network(
            input_ids=rests.input_ids,
            attention_mask=torch.cat([before.to(rests.attention_mask), rests.attention_mask], dim=1),
            position_ids=seen + torch.arange(rests.input_ids.shape[1], device=device),
            use_cache=True,
            **{argument: cache},
        )
    own = token_statistics(Predictions.from_logits(output.logits, rests.labels))
    places = [place for group in groups for place in group.places]
    return {
        place: shared[group].followed_by(own[row]) if group in shared else own[row]
        for row, (place, group) in enumerate(zip(places, rests.index.tolist(), strict=True))
    }
