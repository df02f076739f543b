"""Rows of several batches, laid end to end so that next to nothing is padding."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from soul_lightning.networks.adapters import under_adapters
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.protocols import Batch

Layout = Literal["rows", "one_row"]
"""How many packed rows there are: as many as cost least, or one, which is all that flash attention can tell apart."""
WIDEST = 4
"""A packed row is at most about so many times as long as the longest row: attention works over its whole width."""
TRIAL_TOKENS = 6
"""Length of the rows on which a network is tried."""
NEARER = 0.1
"""Packed, a row must be so much nearer to the row by itself than to the row that sees its neighbour."""


@dataclass(frozen=True)
class PackedRows:
    """Rows of several batches in a few packed rows of nearly equal length.

    Attributes:
        input_ids: [packed rows, width].
        position_ids: [packed rows, width] counted from 0 in each row: by this transformers tells the rows apart.
        starts: For each batch, [batch] where each of its rows starts among the flattened packed rows.
    """

    input_ids: Tensor
    position_ids: Tensor
    starts: Sequence[Tensor]


def pack(batches: Sequence[Batch], layout: Layout, hidden_size: int) -> PackedRows:
    """Lay the rows of all batches end to end.

    Args:
        batches: Rows that are padded on the right; at least one batch, on one device.
        layout: How many packed rows there are.
        hidden_size: Width of the network, against which attention's share of the cost is weighed.

    Returns:
        The packed rows; what is left over at the end of one counts as a row of its own.
    """
    device = batches[0].input_ids.device
    lengths = [length for batch in batches for length in batch.attention_mask.sum(dim=1).tolist()]
    tokens = [ids for batch in batches for ids in batch.input_ids]
    bins = [list(range(len(lengths)))] if layout == "one_row" else cheapest_bins(lengths, hidden_size)
    width = max(sum(lengths[row] for row in rows) for rows in bins)
    starts = torch.zeros(len(lengths), dtype=torch.int64)
    input_ids, position_ids = [], []
    for number, rows in enumerate(bins):
        place = number * width
        for row in rows:
            starts[row] = place
            place += lengths[row]
        rest = (number + 1) * width - place
        input_ids.append(torch.cat([*(tokens[row][: lengths[row]] for row in rows), tokens[0].new_zeros(rest)]))
        position_ids.append(
            torch.cat([torch.arange(n, device=device) for n in (*(lengths[row] for row in rows), rest)])
        )
    by_batch = starts.to(device).split([len(batch) for batch in batches])
    return PackedRows(torch.stack(input_ids), torch.stack(position_ids), by_batch)


def cheapest_bins(lengths: Sequence[int], hidden_size: int) -> list[list[int]]:
    """Deal rows into the number of bins that costs least, each row to the emptiest bin, the longest row first.

    A token costs 1 + width / (6 · hidden_size): beside the 24 · hidden_size² operations of a block's matrices,
    attention over the whole width takes 4 · width · hidden_size.

    Args:
        lengths: Tokens of each row.
        hidden_size: Width of the network.

    Returns:
        The rows of each bin.
    """
    by_length = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    longest, total = max(1, max(lengths)), sum(lengths)
    fewest, most = -(-total // (WIDEST * longest)), -(-total // longest) + 2
    dealt = [_dealt(by_length, lengths, count) for count in range(max(1, fewest), min(most, len(lengths)) + 1)]

    def cost(bins: list[list[int]]) -> float:
        width = max(sum(lengths[row] for row in rows) for rows in bins)
        return len(bins) * width * (1 + width / (6 * hidden_size))

    return min(dealt, key=cost)


def _dealt(by_length: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    bins: list[list[int]] = [[] for _ in range(count)]
    filled = [(0, number) for number in range(count)]
    for row in by_length:
        tokens, number = heapq.heappop(filled)
        bins[number].append(row)
        heapq.heappush(filled, (tokens + lengths[row], number))
    return [rows for rows in bins if rows]


@torch.no_grad()
def packed_layout(network: nn.Module) -> Layout | None:
    """How rows may be packed for this network so that none sees another; none where it cannot tell them apart.

    The network itself is asked, on a few tokens: what it does depends on its class, its kind of attention and the
    version of transformers.

    Args:
        network: A causal language model.
    """
    inner = _transformers_model(network)
    if inner is None:  # nothing is known of the arguments that it takes
        return None
    vocabulary = inner.config.get_text_config().vocab_size
    layouts: tuple[Layout, ...] = ("rows", "one_row")
    with evaluation_mode(network):
        return next((layout for layout in layouts if _keeps_rows_apart(network, vocabulary, layout)), None)


def hidden_size_of(network: nn.Module) -> int:
    """Width of a network that can be packed."""
    inner = _transformers_model(network)
    assert inner is not None
    return int(inner.config.get_text_config().hidden_size)


def _transformers_model(network: nn.Module) -> PreTrainedModel | None:
    inner = under_adapters(network)
    return inner if isinstance(inner, PreTrainedModel) else None


def _keeps_rows_apart(network: nn.Module, vocabulary: int, layout: Layout) -> bool:
    """Whether a row behind a neighbour, packed, says what it says by itself rather than what it says as one text."""
    device = next(network.parameters()).device
    ids = torch.arange(3, 3 + 4 * TRIAL_TOKENS, device=device).view(2, -1).remainder(vocabulary)
    places = torch.arange(TRIAL_TOKENS, device=device).repeat(2, 2)
    if layout == "one_row":
        packed_ids, packed_places = ids.view(1, -1), places.view(1, -1)
    else:
        packed_ids, packed_places = ids, places
    rows = ids[:, TRIAL_TOKENS:]
    # Nothing is compiled for these lengths.
    with torch.autocast(device.type, enabled=False), torch.compiler.set_stance("force_eager"):
        alone = network(input_ids=rows, use_cache=False).logits
        joined = network(input_ids=ids, use_cache=False).logits[:, TRIAL_TOKENS:]
        try:
            packed = network(input_ids=packed_ids, position_ids=packed_places, use_cache=False).logits
        except TypeError:  # takes no positions
            return False
    packed = packed.view(2, 2 * TRIAL_TOKENS, -1)[:, TRIAL_TOKENS:]
    return float((packed - alone).float().norm()) <= NEARER * float((joined - alone).float().norm())
