"""Logit analysis, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.logit_analysis import LogitAnalysisSummary, LogitMargins, logit_analysis

log_probs = st.floats(-30, 0)
questions = st.lists(st.tuples(log_probs, log_probs, log_probs), min_size=1, max_size=12)


def test_worked_out_by_hand() -> None:
    # The truth is first, tied with the corrupted answer, and behind the random one.
    summary = logit_analysis([-1.0, -2.0, -3.0], [-2.0, -2.0, -5.0], [-4.0, -3.0, -2.0])
    assert summary == LogitAnalysisSummary(
        correct=-2.0, corrupted=-3.0, random=-3.0, corrupted_margin=1.0, random_margin=1.0, correct_first=1 / 3
    )


def test_kinds_that_are_not_known_are_left_out() -> None:
    summary = logit_analysis([-1.0, -2.0], random=[-4.0, -1.0])
    assert (summary.corrupted, summary.corrupted_margin) == (None, None)
    assert (summary.random_margin, summary.correct_first) == (1.0, 0.5)
    alone = logit_analysis([-1.0, -2.0])
    assert (alone.correct, alone.random_margin, alone.correct_first) == (-1.5, None, None)


@given(rows=questions)
def test_margins_are_means_of_the_differences(rows: list[tuple[float, float, float]]) -> None:
    correct, corrupted, random = (list(column) for column in zip(*rows, strict=True))
    summary = logit_analysis(correct, corrupted, random)
    assert summary.corrupted_margin == pytest.approx(math.fsum(a - b for a, b, _ in rows) / len(rows), abs=1e-9)
    assert summary.random_margin == pytest.approx(math.fsum(a - c for a, _, c in rows) / len(rows), abs=1e-9)
    assert summary.correct_first == pytest.approx(sum(a > max(b, c) for a, b, c in rows) / len(rows))


@given(rows=questions)
def test_swapping_truth_and_corruption_turns_the_margin(rows: list[tuple[float, float, float]]) -> None:
    correct, corrupted, _ = (list(column) for column in zip(*rows, strict=True))
    forth, back = logit_analysis(correct, corrupted), logit_analysis(corrupted, correct)
    assert forth.corrupted_margin is not None and back.corrupted_margin is not None
    assert forth.corrupted_margin == pytest.approx(-back.corrupted_margin)
    assert forth.correct_first is not None and back.correct_first is not None
    assert forth.correct_first + back.correct_first <= 1


def test_the_class_gives_what_is_known() -> None:
    metric = LogitMargins()
    metric.update([-1.0], random=[-4.0])
    metric.update([-2.0], random=[-1.0])
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == {"correct": -1.5, "random": -2.5, "random_margin": 1.0, "correct_first": 0.5}


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"correct": []}, "got 0 of correct answers"),
        ({"correct": [-1.0], "corrupted": [-1.0, -2.0]}, "got 1 of correct, 2 of corrupted answers"),
        ({"correct": [-1.0], "random": [0.5]}, "the random answers have 0.5"),
        ({"correct": [-math.inf]}, "the correct answers have -inf"),
        ({"correct": [-1.0], "corrupted": [math.nan]}, "the corrupted answers have nan"),
    ],
)
def test_rows_that_mean_nothing_are_refused(columns: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MisconfigurationError, match=complaint):
        logit_analysis(**columns)


def test_a_kind_that_only_some_rows_have_is_refused() -> None:
    metric = LogitMargins()
    metric.update([-1.0], [-2.0])
    metric.update([-1.0])
    with pytest.raises(MisconfigurationError, match="got 2 of correct, 1 of corrupted answers"):
        metric.compute()
