"""A streamed source in batches: every row once a pass, the same rows after a resume, each rank its part."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.datamodules import RecordSource
from soul_lightning.datamodules.loader import StepLoader
from soul_lightning.datamodules.overlap import ForgetRows
from soul_lightning.datamodules.streamed_plan import EncodedStream, StreamedPlan
from soul_lightning.datamodules.streamed_rows import StreamedRows
from soul_lightning.encoding import EncodedExample, EncodedRows
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import IGNORE_INDEX, Example, Step
from soul_lightning.records.table import RecordTable

FOLDER = TemporaryDirectory()
NOTHING = ForgetRows(())
COUNT = st.integers(1, 60)
BLOCK = st.integers(1, 25)
BATCH = st.integers(1, 6)
WINDOWS = st.integers(1, 5)
SEED = st.integers(0, 10_000)


@cache
def source(count: int) -> str:
    """A file of so many rows; row number n says n."""
    path = Path(FOLDER.name, str(count), "rows.jsonl")
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": str(number)}) + "\n" for number in range(count)))
    return str(path)


def examples(table: RecordTable) -> list[Example]:
    return [Example(text, index=index) for index, text in enumerate(table.texts("text"))]


def encode(rows: Sequence[Example]) -> EncodedRows:
    """Row n becomes 2 to 8 tokens, none of them a prompt."""
    lengths = torch.tensor([2 + row.index * 5 % 7 for row in rows], dtype=torch.int64)
    ids = torch.zeros(int(lengths.sum()), dtype=torch.int64)
    return EncodedRows([row.index for row in rows], ids, lengths, torch.zeros_like(lengths), lengths)


def stream(count: int, block: int, forget: ForgetRows = NOTHING) -> EncodedStream:
    rows = RecordSource(source(count), streamed=True, shuffle_rows=block)
    return EncodedStream(StreamedRows(rows, "retain", examples, ("text",)), encode, forget)


def numbers(rows: Sequence[EncodedExample]) -> list[int]:
    return [row.index for row in rows]


@given(count=COUNT, block=BLOCK, batch=BATCH, windows=WINDOWS, seed=SEED)
@settings(max_examples=60)
def test_each_pass_visits_every_row_exactly_once(count: int, block: int, batch: int, windows: int, seed: int) -> None:
    plan = StreamedPlan(stream(count, block), batch, seed, windows)
    number = 0
    for _ in range(3):
        seen: list[int] = []
        while len(seen) < count:
            rows = plan[number]
            assert 1 <= len(rows) <= batch
            assert [len(row) for row in rows] == sorted(len(row) for row in rows)
            seen.extend(numbers(rows))
            number += 1
        assert sorted(seen) == list(range(count))
    assert number <= 3 * -(-count // batch)


@given(count=COUNT, block=BLOCK, batch=BATCH, seed=SEED, wanted=st.lists(st.integers(0, 40), min_size=1, max_size=6))
@settings(max_examples=40)
def test_the_plan_is_a_pure_function(count: int, block: int, batch: int, seed: int, wanted: list[int]) -> None:
    used = StreamedPlan(stream(count, block), batch, seed, 3)
    drawn = [numbers(used[number]) for number in wanted]
    assert drawn == [numbers(StreamedPlan(stream(count, block), batch, seed, 3)[number]) for number in wanted]


def test_passes_and_seeds_differ_and_rows_stay_within_their_block() -> None:
    def order(seed: int, block: int, passes: int = 2) -> list[int]:
        plan = StreamedPlan(stream(40, block), 4, seed, 1)
        return [row.index for number in range(10 * passes) for row in plan[number]]

    assert order(0, 20)[:40] != order(0, 20)[40:]
    assert order(0, 20) != order(1, 20)
    assert set(order(0, 20)[:20]) == set(range(20))
    unshuffled = StreamedPlan(stream(40, 1), 4, 0, 1)
    assert [set(numbers(unshuffled[number])) for number in range(3)] == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}]


def kept(step: Step, name: str = "retain") -> list[int]:
    batch = step.batches[name]
    return batch.index[(batch.labels != IGNORE_INDEX).any(dim=1)].tolist()


def loader(rank: int, ranks: int, count: int, block: int, batch: int, seed: int, windows: int) -> StepLoader:
    forget = encode([Example("", index=index) for index in range(7)])
    return StepLoader({"forget": forget, "retain": stream(count, block)}, batch, 0, seed, rank, ranks, windows)


@given(
    ranks=st.integers(1, 2), count=COUNT, block=BLOCK, batch=BATCH, seed=SEED, windows=WINDOWS, done=st.integers(1, 30)
)
@settings(max_examples=60)
def test_a_resumed_run_sees_exactly_the_rest(
    ranks: int, count: int, block: int, batch: int, seed: int, windows: int, done: int
) -> None:
    for rank in range(ranks):

        def fresh(rank: int = rank) -> StepLoader:
            return loader(rank, ranks, count, block, batch, seed, windows)

        def some(steps: StepLoader, most: int) -> list[tuple[list[int], list[int]]]:
            seen: list[tuple[list[int], list[int]]] = []
            while len(seen) < most:
                for step in steps:
                    seen.append((kept(step, "forget"), kept(step)))
                    if len(seen) == most:
                        break
            return seen

        per_epoch = len(fresh())
        whole_epochs = -(-(done + 12) // per_epoch) * per_epoch  # breaking off an epoch would begin another
        straight = some(fresh(), whole_epochs)
        interrupted = fresh()
        assert some(interrupted, done) == straight[:done]
        state = json.loads(json.dumps(interrupted.state_dict()))
        resumed = fresh()
        resumed.load_state_dict(state)
        assert some(resumed, 12) == straight[done : done + 12]


@given(ranks=st.integers(1, 3), count=COUNT, block=BLOCK, batch=BATCH, seed=SEED)
@settings(max_examples=40)
def test_ranks_partition_the_rows_of_every_step(ranks: int, count: int, block: int, batch: int, seed: int) -> None:
    parts = [list(loader(rank, ranks, count, block, batch, seed, 2)) for rank in range(ranks)]
    plan = StreamedPlan(stream(count, block), batch * ranks, seed + 7919, 2)
    for number in range(len(parts[0])):
        shared = [index for steps in parts for index in kept(steps[number])]
        assert sorted(shared) == sorted(numbers(plan[number]))
        assert all(1 <= len(steps[number].batches["retain"]) <= batch for steps in parts)


def test_a_resumed_run_encodes_no_row_that_it_does_not_train_on() -> None:
    read = stream(1000, 50)
    encoded: list[int] = []

    def counted(rows: Sequence[Example]) -> EncodedRows:
        encoded.extend(row.index for row in rows)
        return encode(rows)

    plan = StreamedPlan(EncodedStream(read.rows, counted, NOTHING), 5, 0, 4)
    plan[100]
    state = plan.state_dict()
    encoded.clear()
    resumed = StreamedPlan(EncodedStream(read.rows, counted, NOTHING), 5, 0, 4)
    resumed.load_state_dict(state)
    assert numbers(resumed[100]) == numbers(plan[100])
    assert len(encoded) == 20


def test_forget_rows_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    forget = ForgetRows([Example("3"), Example(" 11. "), Example("other")])
    plan = StreamedPlan(stream(20, 6, forget), 3, 0, 2)
    with caplog.at_level(logging.WARNING):
        seen = [row.index for number in range(6) for row in plan[number]]
        assert sorted(seen) == sorted(set(range(20)) - {3, 11})
        assert "rows.jsonl: there are rows that also stand in the forget stream and are left out" in caplog.text
        plan[6]
    assert "rows.jsonl: 2 rows also stand in the forget stream and are left out" in caplog.text
    assert [row.index for rows in stream(20, 6, forget).once(4) for row in rows] == [
        number for number in range(20) if number not in (3, 11)
    ]


def test_reading_once_does_not_count_for_a_pass_of_training(caplog: pytest.LogCaptureFixture) -> None:
    read = stream(20, 6, ForgetRows([Example("3"), Example("11")]))
    plan = StreamedPlan(read, 3, 0, 2)
    assert len(plan[0]) == 3
    assert sum(map(len, read.once(4))) == 18
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        plan[6]
    assert "pass 1 over" in caplog.text
    assert ": 2 rows also stand in the forget stream" in caplog.text


def test_rows_without_a_label_are_left_out_and_cut_ones_counted(caplog: pytest.LogCaptureFixture) -> None:
    def odd_ones_cut(rows: Sequence[Example]) -> EncodedRows:
        lengths = torch.tensor([1 if row.index % 2 else 4 for row in rows], dtype=torch.int64)
        return EncodedRows(
            [row.index for row in rows],
            torch.zeros(int(lengths.sum()), dtype=torch.int64),
            lengths,
            torch.zeros_like(lengths),
            lengths + 1,
        )

    plan = StreamedPlan(EncodedStream(stream(10, 4).rows, odd_ones_cut, NOTHING), 2, 0, 2)
    with caplog.at_level(logging.WARNING):
        assert sorted(row.index for number in range(3) for row in plan[number]) == [0, 2, 4, 6, 8]
        plan[3]
    assert "5 rows have nothing of their answer within max_tokens and are left out" in caplog.text
    assert "5 rows are cut at max_tokens and have no end" in caplog.text


def test_a_source_of_which_nothing_remains_is_one_sentence() -> None:
    forget = ForgetRows([Example(str(number)) for number in range(5)])
    with pytest.raises(
        MisconfigurationError, match=r"retain: a pass over .*rows\.jsonl has no row that can be trained"
    ):
        StreamedPlan(stream(5, 2, forget), 2, 0, 2)[0]


def test_a_checkpoint_of_other_blocks_is_refused() -> None:
    plan = StreamedPlan(stream(30, 7), 2, 0, 2)
    plan[3]
    with pytest.raises(MisconfigurationError, match=r"rows\.jsonl with shuffle_rows=7, and it is now 5; set it as"):
        StreamedPlan(stream(30, 5), 2, 0, 2).load_state_dict(plan.state_dict())


def test_a_checkpoint_of_rows_in_memory_is_taken_up_by_reading_again() -> None:
    straight = loader(0, 1, 30, 7, 2, 0, 2)
    steps = [kept(step) for _ in range(3) for step in straight]
    resumed = loader(0, 1, 30, 7, 2, 0, 2)
    resumed.load_state_dict({"steps_done": 6, "epoch_start": 4, "rows_per_step": 2})
    assert [kept(step) for step in resumed] == steps[6:8]
