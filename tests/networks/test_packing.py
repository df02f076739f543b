"""Rows laid end to end: none is lost, none is cut, and no network sees a neighbour."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaForCausalLM

from soul_lightning.networks.packing import WIDEST, cheapest_bins, pack, packed_layout
from soul_lightning.protocols import Batch
from tests.networks.architectures import ARCHITECTURES, seeded

LEAKY = {"bloom", "mamba", "opt"}
"""Take no positions, keep a state, or do not tell their mask about positions."""
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def batch_of(lengths: list[int], first: int = 5) -> Batch:
    width = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    ids = torch.arange(first, first + mask.numel()).view(mask.shape) * mask
    return Batch(ids, mask, torch.where(mask == 1, ids, -100), torch.arange(len(lengths)))


@given(LENGTHS, st.sampled_from([8, 64, 4096]))
def test_every_row_is_dealt_once_and_bins_are_nearly_level(lengths: list[int], hidden_size: int) -> None:
    bins = cheapest_bins(lengths, hidden_size)
    assert sorted(row for rows in bins for row in rows) == list(range(len(lengths)))
    width = max(sum(lengths[row] for row in rows) for rows in bins)
    assert width <= sum(lengths) / len(bins) + max(lengths)  # nearly level
    assert len(bins) == 1 or width <= (WIDEST + 2) * max(lengths)


@given(LENGTHS, LENGTHS, st.sampled_from(["rows", "one_row"]))
def test_rows_stand_where_it_is_said_and_count_from_nought(first: list[int], second: list[int], layout: str) -> None:
    batches = [batch_of(first), batch_of(second, 10_000)]
    packed = pack(batches, "rows" if layout == "rows" else "one_row", 64)
    flat, places = packed.input_ids.flatten(), packed.position_ids.flatten()
    taken = torch.zeros_like(flat)
    for batch, starts, lengths in zip(batches, packed.starts, (first, second), strict=True):
        for row, (start, length) in enumerate(zip(starts.tolist(), lengths, strict=True)):
            assert torch.equal(flat[start : start + length], batch.input_ids[row, :length])
            assert places[start : start + length].tolist() == list(range(length))
            taken[start : start + length] += 1
    assert int(taken.max()) == 1 and int(taken.sum()) == sum(first) + sum(second)
    assert not flat[taken == 0].any()  # what is left over is no one's text


def test_packing_beats_padding_on_rows_of_many_lengths() -> None:
    lengths = [10, 20, 30, 40, 50, 60, 70, 80]
    packed = pack([batch_of(lengths)], "rows", 576)
    assert packed.input_ids.numel() < 1.05 * sum(lengths) < 0.6 * len(lengths) * max(lengths)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES.keys() - LEAKY))
def test_networks_that_keep_packed_rows_apart(name: str, attention: str) -> None:
    if name == "gemma2" and attention == "sdpa":
        attention = "eager"  # its only kind: logits are capped before the softmax
    assert packed_layout(seeded(name, attention)) == "rows"


@pytest.mark.parametrize("name", sorted(LEAKY))
def test_networks_that_do_not(name: str) -> None:
    assert packed_layout(seeded(name)) is None


def test_a_network_that_forgets_where_rows_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if transformers stopped to look at positions that start anew."""
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda position_ids: None)
    assert packed_layout(seeded("llama")) is None


def test_the_network_is_left_as_it_was(tiny_network: LlamaForCausalLM) -> None:
    tiny_network.train()
    tiny_network.model.layers[0].eval()
    state = torch.get_rng_state()
    assert packed_layout(tiny_network) == "rows"
    assert tiny_network.training and not tiny_network.model.layers[0].training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in tiny_network.parameters())


def test_nothing_is_assumed_of_a_module_from_elsewhere() -> None:
    assert packed_layout(nn.Linear(2, 2)) is None
