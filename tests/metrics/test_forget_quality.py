"""Forget quality: a Kolmogorov–Smirnov test, with its exact p-value counted out for small sets."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.forget_quality import (
    ForgetQualityPValue,
    SoulForgetQualityPValue,
    forget_quality,
    soul_forget_quality,
)

ratios = st.lists(st.floats(0, 10), min_size=1, max_size=12)


def distance(first: list[float], second: list[float]) -> float:
    """The greatest distance between two empirical distribution functions."""
    return max(
        abs(sum(a <= x for a in first) / len(first) - sum(b <= x for b in second) / len(second)) for x in first + second
    )


def test_the_p_value_is_the_share_of_ways_to_deal_that_are_as_far_apart() -> None:
    first, second = [0.1, 0.2, 0.3, 0.7], [0.4, 0.5, 0.6, 0.8, 0.9]
    pooled = first + second
    deals = [
        distance([pooled[place] for place in hand], [pooled[place] for place in range(9) if place not in hand])
        for hand in combinations(range(9), 4)
    ]
    share = np.mean([deal >= distance(first, second) - 1e-12 for deal in deals])
    assert forget_quality(first, second) == pytest.approx(share)


# where the exact count rounds to above 1, SciPy says so and takes the asymptotic value, which is then 1 to four digits
@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful")
@given(first=ratios, second=ratios, seed=st.integers(0, 99))
def test_order_and_side_change_nothing(first: list[float], second: list[float], seed: int) -> None:
    moved = np.random.default_rng(seed).permutation(first)
    value = forget_quality(first, second)
    assert 0 <= value <= 1
    assert forget_quality(moved, second) == value
    assert forget_quality(second, first) == pytest.approx(value)
    assert soul_forget_quality(first, second) == value


def test_the_same_model_cannot_be_told_apart_and_another_can() -> None:
    generator = np.random.default_rng(0)
    unlearned = generator.gamma(2.0, size=80)
    assert forget_quality(unlearned, unlearned) == 1
    assert forget_quality(unlearned, unlearned + 3) < 1e-10


def test_sets_without_rows_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="retain-only ratios"):
        forget_quality([1.0], [])
    with pytest.raises(MisconfigurationError, match="forget ratios"):
        soul_forget_quality([float("nan")], [1.0])


@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful")
@given(first=ratios, second=ratios, parts=st.integers(1, 3))
def test_the_classes_equal_scipy(first: list[float], second: list[float], parts: int) -> None:
    tofu, soul = ForgetQualityPValue(second), SoulForgetQualityPValue()
    for part in range(parts):
        tofu.update(first[part::parts])
        soul.update(first[part::parts], second[part::parts])
    expected = ks_2samp(first, second).pvalue
    assert tofu.compute().item() == soul.compute().item() == pytest.approx(expected)


def test_classes_without_rows_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="retain-only ratios"):
        ForgetQualityPValue([])
    tofu, soul = ForgetQualityPValue([1.0]), SoulForgetQualityPValue()
    tofu.update([])
    soul.update(forget=[1.0])
    with pytest.raises(MisconfigurationError, match="unlearned ratios"):
        tofu.compute()
    with pytest.raises(MisconfigurationError, match="retain ratios"):
        soul.compute()
