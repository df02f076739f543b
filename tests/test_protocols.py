from __future__ import annotations

import torch

from soul_lightning.protocols import IGNORE_INDEX, Batch, Example, Fact, Step


def make_batch() -> Batch:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    labels = torch.where(mask == 1, torch.arange(5), IGNORE_INDEX)
    return Batch(torch.arange(5).repeat(3, 1), mask, labels, torch.tensor([4, 9, 2]))


def test_counts_leave_out_the_first_position_and_padding() -> None:
    batch = make_batch()
    assert batch.labelled_tokens == 4 + 1 + 2
    assert batch.labelled_sequences == 3
    batch.labels[1, 1:] = IGNORE_INDEX
    assert batch.labelled_sequences == 2


def test_split_cuts_each_part_to_its_longest_row() -> None:
    parts = list(make_batch().split(3))
    assert [part.input_ids.shape for part in parts] == [(1, 5), (1, 2), (1, 3)]
    assert [part.index.tolist() for part in parts] == [[4], [9], [2]]
    assert sum(part.labelled_tokens for part in parts) == make_batch().labelled_tokens
    assert len(list(make_batch().split(7))) == 3


def test_steps_move_as_a_whole() -> None:
    step = Step({"forget": make_batch()}).to("cpu")
    assert torch.equal(step.batches["forget"].labels, make_batch().labels)
    assert len(step.batches["forget"]) == 3


def test_facts_compare_without_case() -> None:
    assert Fact("Ada ", "lives in", "Paris").key == Fact("ada", "Lives in", "paris").key
    assert Example("Paris", aliases=("the city of light",)).accepted == ("Paris", "the city of light")
