"""Requests that arrive one after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.datamodules.task import Task, split_into_requests
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe


def rows_about(subjects: list[str]) -> list[Example]:
    return [Example(f"answer {n}", f"question {n}", n, subject=subject) for n, subject in enumerate(subjects)]


def task_about(forget: list[Example]) -> Task:
    retain = rows_about(["zoe", "zoe"])
    probes = [Probe("corrupted", "question", forget, "corrupted"), Probe("retain", "text", retain, "retain")]
    return Task({"forget": forget, "retain": retain}, probes)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12),
    data=st.data(),
)
def test_requests_partition_the_forget_stream_by_subject(sizes: list[int], data: st.DataObject) -> None:
    forget = rows_about([f"person {place}" for place, size in enumerate(sizes) for _ in range(size)])
    requests = data.draw(st.integers(2, len(sizes)))
    parts = [split_into_requests(task_about(forget), requests, [number]) for number in range(1, requests + 1)]
    assert [row for part in parts for row in part.streams["forget"]] == forget
    subjects = [{row.subject for row in part.streams["forget"]} for part in parts]
    assert all(subjects)
    assert sum(map(len, subjects)) == len(sizes)


@given(rows=st.integers(2, 40), data=st.data())
def test_requests_of_rows_without_subjects_differ_by_at_most_a_row(rows: int, data: st.DataObject) -> None:
    forget = [Example(f"text {n}", index=n) for n in range(rows)]
    requests = data.draw(st.integers(2, rows))
    sizes = [
        len(split_into_requests(task_about(forget), requests, [number]).streams["forget"])
        for number in range(1, requests + 1)
    ]
    assert sum(sizes) == rows
    assert max(sizes) - min(sizes) <= 1


def test_a_probe_holds_what_has_arrived_and_each_request_apart() -> None:
    forget = rows_about(["ada", "ada", "bela", "bela", "cleo", "cleo"])
    found = {probe.name: probe.examples for probe in split_into_requests(task_about(forget), 3, [2]).probes}
    assert found["corrupted"] == forget[:4]
    assert [found[f"corrupted_{number}"] for number in (1, 2, 3)] == [forget[:2], forget[2:4], forget[4:]]
    assert found["retain"] == rows_about(["zoe", "zoe"])
    assert len(found) == 5


def test_rows_of_another_set_that_share_a_number_stay_in_their_probe() -> None:
    forget = [Example(f"text {n}", index=n) for n in range(4)]
    questions = [Example("b", "which letter", 0)]
    task = Task({"forget": forget}, [Probe("exam", "multiple_choice", questions, "forget")])
    assert split_into_requests(task, 2, [1]).probes == [Probe("exam", "multiple_choice", questions, "forget")]


def test_more_requests_than_subjects_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="requests=3 is more than the 2 subjects"):
        split_into_requests(task_about(rows_about(["ada", "bela", "bela"])), 3, [1])


def test_a_task_without_a_forget_stream_is_refused() -> None:
    with pytest.raises(MisconfigurationError, match="requests=2 cuts the forget stream, and this task trains on full"):
        split_into_requests(Task({"full": rows_about(["ada", "bela"])}), 2, [1])
