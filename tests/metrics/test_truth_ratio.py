"""Truth ratios and what is made of them, worked out by hand and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gmean

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.truth_ratio import (
    Aggregation,
    TruthRatio,
    forget_truth_ratio,
    prob_mean,
    truth_ratio,
    utility_truth_ratio,
)

nll = st.floats(0, 30)
rows = st.lists(st.tuples(nll, st.lists(nll, min_size=1, max_size=5)), min_size=1, max_size=8)
ratios = st.lists(st.floats(0, 1e6) | st.just(math.inf), min_size=1, max_size=12)
AGGREGATIONS: tuple[Aggregation, ...] = ("geometric", "arithmetic")


@given(given_rows=rows)
def test_equals_the_definition(given_rows: list[tuple[float, list[float]]]) -> None:
    true, false = [row[0] for row in given_rows], [row[1] for row in given_rows]
    geometric = [math.exp(-sum(own) / len(own)) / math.exp(-nll) for nll, own in given_rows]
    arithmetic = [sum(math.exp(-each) for each in own) / len(own) / math.exp(-nll) for nll, own in given_rows]
    assert truth_ratio(true, false).tolist() == pytest.approx(geometric)
    assert truth_ratio(true, false, "arithmetic").tolist() == pytest.approx(arithmetic)
    assert (truth_ratio(true, false) <= truth_ratio(true, false, "arithmetic") * (1 + 1e-12)).all()


@given(given_rows=rows, seed=st.integers(0, 99))
def test_the_order_of_rows_and_answers_changes_nothing(given_rows: list[tuple[float, list[float]]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(given_rows))
    moved = [(given_rows[place][0], given_rows[place][1][::-1]) for place in order]
    for aggregation in AGGREGATIONS:
        before = truth_ratio([row[0] for row in given_rows], [row[1] for row in given_rows], aggregation)
        after = truth_ratio([row[0] for row in moved], [row[1] for row in moved], aggregation)
        assert after.tolist() == pytest.approx(before[order].tolist())
        assert forget_truth_ratio(after) == pytest.approx(forget_truth_ratio(before))


@given(values=ratios)
def test_aggregates_are_bounded_and_never_nan(values: list[float]) -> None:
    for aggregate in (forget_truth_ratio, utility_truth_ratio, prob_mean):
        assert 0 <= aggregate(values) <= 1


@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_the_forget_score_does_not_ask_which_answers_are_likelier(values: list[float]) -> None:
    inverted = [1 / value for value in values]
    assert forget_truth_ratio(inverted) == pytest.approx(forget_truth_ratio(values))
    assert prob_mean(inverted) == pytest.approx(1 - prob_mean(values))


def test_a_model_beyond_all_reason_has_a_limit() -> None:
    assert truth_ratio([2000.0], [[1.0]]).tolist() == [math.inf]
    assert truth_ratio([1.0], [[2000.0, 3000.0]], "arithmetic").tolist() == [0.0]
    assert forget_truth_ratio([math.inf, 0.0]) == utility_truth_ratio([math.inf]) == prob_mean([math.inf]) == 0


def test_rows_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="at least one false one"):
        truth_ratio([1.0, 2.0], [[1.0], []])
    with pytest.raises(MisconfigurationError, match="2 true answers"):
        truth_ratio([1.0, 2.0], [[1.0]])
    with pytest.raises(MisconfigurationError, match="row 1"):
        truth_ratio([1.0, math.nan], [[1.0], [1.0]])
    with pytest.raises(MisconfigurationError, match="'geometric' or 'arithmetic'"):
        truth_ratio([1.0], [[1.0]], "harmonic")  # type: ignore[arg-type]
    for aggregate in (forget_truth_ratio, utility_truth_ratio, prob_mean):
        with pytest.raises(MisconfigurationError, match="got none"):
            aggregate([])
        with pytest.raises(MisconfigurationError, match="2 of 3 rows"):
            aggregate([1.0, -1.0, math.nan])


@given(given_rows=rows, parts=st.integers(1, 3))
def test_the_class_keeps_the_ratios_and_agrees_with_scipy(
    given_rows: list[tuple[float, list[float]]], parts: int
) -> None:
    geometric = [gmean(np.exp(-np.array(own))) / math.exp(-nll) for nll, own in given_rows]
    metric = TruthRatio("utility")
    for part in range(parts):
        own_rows = given_rows[part::parts]
        metric.update([row[0] for row in own_rows], [row[1] for row in own_rows])
    assert sorted(metric.rows("ratios")) == pytest.approx(sorted(geometric))
    assert metric.compute().item() == pytest.approx(float(np.mean(np.maximum(0, 1 - np.array(geometric)))), abs=1e-9)


def test_the_class_refuses_what_it_does_not_know() -> None:
    with pytest.raises(MisconfigurationError, match="statistic must be"):
        TruthRatio("mean")  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match="aggregation must be"):
        TruthRatio(aggregation="harmonic")  # type: ignore[arg-type]
    metric = TruthRatio()
    with pytest.raises(MisconfigurationError, match="row 1"):
        metric.update([1.0, math.nan], [[1.0], [1.0]])
    with pytest.raises(MisconfigurationError, match="got none"):
        metric.update([], [])
        metric.compute()
