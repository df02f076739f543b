"""Every pass visits every row once; the order is a pure function of seed and number; ranks share each batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from soul_lightning.datamodules.loader import LENGTH_GROUP_WINDOWS, BatchPlan, ChangingRows, StepLoader
from soul_lightning.encoding import EncodedExample
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import IGNORE_INDEX, Step
from tests.conftest import TinyDataModule, make_trainer

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=130)


def encoded(lengths: list[int]) -> list[EncodedExample]:
    return [EncodedExample(torch.full((length,), 5), 0, index) for index, length in enumerate(lengths)]


def numbers_of(rows: Sequence[EncodedExample]) -> list[int]:
    return [row.index for row in rows]


def indices(step: Step, stream: str = "forget") -> list[int]:
    batch = step.batches[stream]
    return batch.index[(batch.labels != IGNORE_INDEX).any(dim=1)].tolist()


@given(lengths=LENGTHS, batch_size=st.integers(1, 9), seed=st.integers(0, 10_000), passes=st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_each_pass_visits_every_row_exactly_once(lengths: list[int], batch_size: int, seed: int, passes: int) -> None:
    plan = BatchPlan(encoded(lengths), batch_size, seed)
    for number in range(passes):
        first = number * plan.batches_per_pass
        batches = [plan[first + place] for place in range(plan.batches_per_pass)]
        assert sorted(row.index for batch in batches for row in batch) == list(range(len(lengths)))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1


@given(
    lengths=LENGTHS,
    seed=st.integers(0, 10_000),
    numbers=st.lists(st.integers(0, 200), min_size=1, max_size=8),
)
@settings(max_examples=50, deadline=None)
def test_the_plan_is_a_pure_function(lengths: list[int], seed: int, numbers: list[int]) -> None:
    used = BatchPlan(encoded(lengths), 4, seed)
    drawn = [numbers_of(used[number]) for number in numbers]
    torch.manual_seed(seed + 1)
    assert drawn == [numbers_of(BatchPlan(encoded(lengths), 4, seed)[number]) for number in numbers]


def test_no_batch_is_a_remnant_where_a_pass_is_longer_than_the_length_window() -> None:
    batch_size = 4
    rows = batch_size * LENGTH_GROUP_WINDOWS + 1
    plan = BatchPlan(encoded([3] * rows), batch_size, 0)
    assert {len(plan[number]) for number in range(plan.batches_per_pass)} == {3, 4}


def test_passes_differ_and_seeds_differ() -> None:
    plan, other = BatchPlan(encoded([2] * 40), 4, 0), BatchPlan(encoded([2] * 40), 4, 1)
    first = [numbers_of(plan[number]) for number in range(10)]
    assert first != [numbers_of(plan[number]) for number in range(10, 20)]
    assert first != [numbers_of(other[number]) for number in range(10)]


def test_batches_hold_rows_of_like_length() -> None:
    lengths = [1 + (row * 37) % 100 for row in range(200)]
    plan = BatchPlan(encoded(lengths), 4, 0)
    spreads = [
        max(map(len, batch)) - min(map(len, batch))
        for batch in (plan[number] for number in range(plan.batches_per_pass))
    ]
    assert sum(spreads) / len(spreads) < 20  # random batches of four spread over 60


@given(rows=st.integers(1, 60), batch_size=st.integers(1, 5), world_size=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_ranks_partition_the_rows_of_every_step(rows: int, batch_size: int, world_size: int, seed: int) -> None:
    streams = {"forget": encoded([1 + row % 7 for row in range(rows)]), "retain": encoded([2] * 5)}
    ranks = [list(StepLoader(streams, batch_size, 0, seed, rank, world_size)) for rank in range(world_size)]
    assert len({len(steps) for steps in ranks}) == 1
    visited = [index for steps in ranks for step in steps for index in indices(step)]
    assert sorted(visited) == list(range(rows))
    whole = list(StepLoader(streams, batch_size * world_size, 0, seed))
    for number, step in enumerate(whole):
        shared = [index for steps in ranks for index in indices(steps[number])]
        assert sorted(shared) == sorted(indices(step))
        assert all(1 <= len(steps[number].batches["forget"]) <= batch_size for steps in ranks)


def test_the_second_stream_carries_on_across_epochs() -> None:
    streams = {"forget": encoded([2] * 4), "retain": encoded([2] * 6)}
    loader = StepLoader(streams, 2, 0)
    drawn = [index for _ in range(3) for step in loader for index in indices(step, "retain")]
    assert Counter(drawn) == Counter({index: 2 for index in range(6)})
    assert sorted(drawn[:6]) == list(range(6))


@given(rows=st.integers(1, 12), done=st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_a_run_resumes_in_the_middle_of_an_epoch(rows: int, done: int) -> None:
    def loader() -> StepLoader:
        return StepLoader({"forget": encoded([2] * rows), "retain": encoded([2] * 7)}, 3, 0, seed=4)

    whole = loader()
    steps = [(number, epoch, step) for epoch in range(24) for number, step in enumerate(whole)]
    straight, interrupted = steps[: done + 12], loader()
    given_out = 0
    while given_out < done:
        for _ in interrupted:
            given_out += 1
            if given_out == done:
                break
    resumed = loader()
    resumed.load_state_dict(interrupted.state_dict())
    rest = [step for _ in range(20) for step in resumed]
    for (_, _, expected), step in zip(straight[done:], rest, strict=False):
        assert indices(step) == indices(expected)
        assert indices(step, "retain") == indices(expected, "retain")
    again = loader()
    again.load_state_dict(interrupted.state_dict())
    per_epoch = len(again)
    assert len(list(again)) == per_epoch - done % per_epoch
    assert len(list(again)) == per_epoch


def test_an_epoch_that_is_broken_off_is_followed_by_a_whole_one() -> None:
    loader = StepLoader({"forget": encoded([2] * 10)}, 1, 0)
    for place, _ in enumerate(loader):
        if place == 2:
            break
    assert len(list(loader)) == 10


def test_the_state_is_plain_numbers() -> None:
    loader = StepLoader({"forget": encoded([2] * 4)}, 2, 0)
    next(iter(loader))
    assert loader.state_dict() == {"steps_done": 1, "epoch_start": 0, "rows_per_step": 2}


def test_steps_of_other_rows_are_not_gone_on_with_and_the_same_on_more_processes_are() -> None:
    rows = {"forget": encoded([2] * 16)}
    alone = StepLoader(rows, 4, 0)
    next(iter(alone))
    state = alone.state_dict()
    with pytest.raises(MisconfigurationError, match=r"steps of 4 rows of each stream .* now has 2; set batch_size"):
        StepLoader(rows, 2, 0).load_state_dict(state)
    rest = [step.batches["forget"].index.tolist() for step in alone]
    shared = []
    for rank in range(2):
        half = StepLoader(rows, 2, 0, rank=rank, world_size=2)
        half.load_state_dict(state)
        shared.append([step.batches["forget"].index.tolist() for step in half])
    assert [sorted(one + other) for one, other in zip(*shared, strict=True)] == [sorted(step) for step in rest[:3]]


class Recorder(LightningModule):
    """Writes down the rows of every step."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[list[int], list[int]]] = []

    def training_step(self, step: Step, batch_idx: int) -> Tensor:
        self.seen.append((indices(step), indices(step, "retain")))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_trainer_resumes_exactly(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, step: int) -> None:
    def fit(folder: str, ckpt_path: str | None = None, **settings: object) -> Recorder:
        module = Recorder(tokenizer)
        checkpoint = ModelCheckpoint(tmp_path / folder, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        trainer: Trainer = make_trainer(
            tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[checkpoint], **settings
        )
        trainer.fit(module, datamodule=TinyDataModule(2), ckpt_path=ckpt_path)
        return module

    straight = fit("straight")
    assert len(straight.seen) == 9
    resumed = fit("resumed", str(tmp_path / "straight" / f"step={step}.ckpt"))
    assert resumed.seen == straight.seen[step:]


def test_limited_epochs_keep_their_length(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    module = Recorder(tokenizer)
    trainer = make_trainer(tmp_path, max_epochs=4, limit_train_batches=2)
    trainer.fit(module, datamodule=TinyDataModule(2))
    assert len(module.seen) == 8


def test_targets_change_at_their_steps_and_each_begins_with_a_whole_pass() -> None:
    rows = {
        request: [replace(row, index=100 * request + row.index) for row in encoded([2] * request)] for request in (4, 6)
    }
    streams: dict[str, list[EncodedExample] | ChangingRows] = {
        "forget": ChangingRows(rows, {0: 4, 3: 6, 8: 4}),
        "retain": encoded([2] * 5),
    }
    loader = StepLoader(streams, 2, 0)
    assert len(loader) == 3, "a pass over the larger one"
    steps = [step for _ in range(4) for step in loader]
    assert [step.request for step in steps] == [4] * 3 + [6] * 5 + [4] * 4
    assert all(index // 100 == step.request for step in steps for index in indices(step))
    for first, request in ((0, 4), (3, 6), (8, 4)):
        passed = [index for step in steps[first : first + request // 2] for index in indices(step)]
        assert sorted(passed) == [100 * request + number for number in range(request)]
    assert steps[0].to("cpu").request == 4
    resumed = StepLoader(streams, 2, 0)
    resumed.load_state_dict({"steps_done": 4, "epoch_start": 3, "rows_per_step": 2})
    assert [(step.request, indices(step)) for step in resumed] == [(step.request, indices(step)) for step in steps[4:6]]
