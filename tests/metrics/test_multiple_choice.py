"""Multiple choice, worked out by hand and against the definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.multiple_choice import MultipleChoiceAccuracy, multiple_choice_hits

options = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 9)), min_size=2, max_size=5)


def test_length_counts() -> None:
    # 6/3 beats 3/1, which has the lower sum.
    assert multiple_choice_hits([[6.0, 3.0]] * 2, [[3, 1]] * 2, [0, 1]).tolist() == [True, False]


def test_the_first_of_tied_options_is_chosen() -> None:
    nlls, tokens = [[4.0, 2.0, 1.0]], [[4, 2, 1]]
    assert [multiple_choice_hits(nlls, tokens, [gold])[0] for gold in range(3)] == [True, False, False]


@given(rows=st.lists(options, min_size=1, max_size=6), data=st.data())
def test_equals_the_definition(rows: list[list[tuple[float, int]]], data: st.DataObject) -> None:
    gold = [data.draw(st.integers(0, len(row) - 1)) for row in rows]
    nlls, tokens = ([[option[part] for option in row] for row in rows] for part in (0, 1))
    hits = multiple_choice_hits(nlls, [[int(count) for count in row] for row in tokens], gold)
    for row, place, hit in zip(rows, gold, hits, strict=True):
        means = [nll / count for nll, count in row]
        assert hit == (min(means) not in means[:place] and means[place] == min(means))


@given(row=options)
def test_a_factor_on_every_nll_changes_nothing(row: list[tuple[float, int]]) -> None:
    nlls, tokens = [nll for nll, _ in row], [count for _, count in row]
    for gold in range(len(row)):
        scaled = multiple_choice_hits([[4 * nll for nll in nlls]], [tokens], [gold])
        assert scaled.tolist() == multiple_choice_hits([nlls], [tokens], [gold]).tolist()


def test_tensors_and_lists_are_the_same_questions() -> None:
    metric = MultipleChoiceAccuracy()
    metric.update([[6.0, 3.0], [1.0, 2.0, 3.0]], [[3, 1], [1, 1, 1]], [0, 2])
    metric.update(torch.tensor([[6.0, 3.0]]), torch.tensor([[3, 1]]), torch.tensor([0]))
    assert metric.compute().item() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("nlls", "tokens", "gold", "complaint"),
    [
        ([[1.0, 2.0]], [[1, 1]], [], "got 1, 1 and 0 of them"),
        ([[1.0]], [[1]], [0], r"question 0 has the NLLs \[1.0\] of \[1\] tokens"),
        ([[1.0, 2.0], [1.0, 2.0]], [[1, 1], [1]], [0, 0], "question 1 has the NLLs"),
        ([[1.0, 2.0]], [[1, 0]], [0], r"of \[1, 0\] tokens; leave it out"),
        ([[1.0, math.nan]], [[1, 1]], [0], "a finite NLL"),
        ([[1.0, 2.0]], [[1, 1]], [2], "has 2 options and option 2 is said to be right; count them from 0"),
        ([[1.0, 2.0]], [[1, 1]], [-1], "option -1 is said to be right"),
    ],
)
def test_questions_that_mean_nothing_are_refused(
    nlls: list[list[float]], tokens: list[list[int]], gold: list[int], complaint: str
) -> None:
    with pytest.raises(MisconfigurationError, match=complaint):
        multiple_choice_hits(nlls, tokens, gold)
    with pytest.raises(MisconfigurationError, match=complaint):
        MultipleChoiceAccuracy().update(nlls, tokens, gold)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_without_a_question_there_is_no_accuracy() -> None:
    assert multiple_choice_hits([], [], []).tolist() == []
    with pytest.raises(MisconfigurationError, match="at least one row"):
        MultipleChoiceAccuracy().compute()
