"""Intervals of shares and means, against exact values and on draws of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.excess import clopper_pearson, mean_interval


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_is_where_the_binomial_tails_say(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    interval = clopper_pearson(hits, trials)
    exact = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))
    assert interval.value == hits / trials


def test_no_trials_have_no_share() -> None:
    with pytest.raises(MisconfigurationError, match="got 0 of 0"):
        clopper_pearson(0, 0)
    with pytest.raises(MisconfigurationError, match="got 3 of 2"):
        clopper_pearson(3, 2)


def test_rows_of_an_entity_are_drawn_together() -> None:
    values = [1.0] * 20 + [0.0] * 20
    together = mean_interval(values, ["a"] * 20 + ["b"] * 20, is_share=True)
    apart = mean_interval(values, range(40))
    assert (together.value, together.low, together.high) == (0.5, 0.0, 1.0)
    assert 0.3 < apart.low < 0.4 < 0.6 < apart.high < 0.7


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_rows_that_all_say_the_same_still_leave_doubt(value: float) -> None:
    interval = mean_interval([value] * 24, [n // 4 for n in range(24)])
    width = clopper_pearson(0, 6).high
    assert (interval.low, interval.high) == pytest.approx((value - width, value + width))
    assert 0.4 < width < 0.5


@pytest.mark.parametrize("entities", [[0, 0, 1, 1, 2, 2], [0] * 6])
def test_entities_that_all_say_the_same_leave_doubt_however_their_rows_differ(entities: list[int]) -> None:
    interval = mean_interval([0.1, 0.6, 0.2, 0.5, 0.3, 0.4], entities)
    width = clopper_pearson(0, len(set(entities))).high
    assert (interval.low, interval.high) == pytest.approx((0.35 - width, 0.35 + width))


@pytest.mark.parametrize("n_entities", [2, 3, 4, 6, 40])
def test_the_interval_holds_the_truth_as_often_as_it_says(n_entities: int) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        entities = rng.normal(0.2, 0.3, size=n_entities)  # of three rows each, their means spread around 0.2
        rows = (entities[:, None] + rng.normal(0, 0.1, size=(n_entities, 3))).ravel()
        interval = mean_interval(rows.tolist(), np.repeat(np.arange(n_entities), 3).tolist())
        held += interval.low <= 0.2 <= interval.high
    share = clopper_pearson(held, 400, 0.999)
    assert share.low <= 0.95 <= share.high


def test_few_entities_on_one_side_prove_nothing_at_a_high_confidence() -> None:
    values, entities = [0.3, 0.5, 0.1, 0.2, 0.4], range(5)
    assert mean_interval(values, entities, confidence=0.9).low > 0
    assert mean_interval(values, entities, confidence=0.999).low < 0


def test_a_mean_needs_rows_and_their_entities() -> None:
    with pytest.raises(MisconfigurationError, match="0 values and 0 entities"):
        mean_interval([], [])
    with pytest.raises(MisconfigurationError, match="2 values and 1 entities"):
        mean_interval([1.0, 0.0], ["a"])
