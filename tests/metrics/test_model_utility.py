"""Model utility: a harmonic mean of nine that one zero takes to zero."""

from __future__ import annotations

import math
from statistics import fmean, harmonic_mean
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hmean

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.model_utility import SCORES, Group, ModelUtility, model_utility

nine = st.lists(st.floats(0, 1), min_size=9, max_size=9)
rows = st.lists(st.floats(0.01, 1), min_size=1, max_size=4)


@given(parts=nine)
def test_equals_the_harmonic_mean_whatever_the_order(parts: list[float]) -> None:
    assert model_utility(parts) == pytest.approx(harmonic_mean(parts))
    assert model_utility(sorted(parts)) == pytest.approx(model_utility(parts))
    assert min(parts) * (1 - 1e-12) <= model_utility(parts) <= max(parts) * (1 + 1e-12)


def test_one_zero_is_enough() -> None:
    assert model_utility([1.0] * 8 + [0.0]) == 0
    assert model_utility([1.0] * 8 + [5e-324]) > 0


def test_parts_that_make_no_utility_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="got 8"):
        model_utility([0.5] * 8)
    for unusable in (-0.1, math.nan, math.inf):
        with pytest.raises(MisconfigurationError, match="finite and at least 0"):
            model_utility([0.5] * 8 + [unusable])


@given(scores=st.tuples(*[rows] * 9))
def test_the_class_is_scipys_harmonic_mean_of_nine_means(scores: tuple[list[float], ...]) -> None:
    metric = ModelUtility()
    for place, group in enumerate(get_args(Group)):
        probabilities, recalls, utilities = scores[3 * place : 3 * place + 3]
        metric.update(group, truth_ratios=[1 - utility for utility in utilities])
        metric.update(group, probabilities, recalls)
    assert list(metric.parts()) == [f"{group}_{score}" for group in get_args(Group) for score in SCORES]
    assert [part.item() for part in metric.parts().values()] == pytest.approx([fmean(own) for own in scores])
    assert metric.compute().item() == pytest.approx(hmean([fmean(own) for own in scores]))


def test_what_the_class_misses_is_named() -> None:
    metric = ModelUtility()
    for group in get_args(Group):
        metric.update(group, [0.5], [0.5], [0.5] if group != "world_facts" else [])
    for number in (metric.compute, metric.parts):
        with pytest.raises(MisconfigurationError, match="has no rows of world_facts_truth_ratio;"):
            number()
    with pytest.raises(MisconfigurationError, match="group must be one of 'retain', 'real_authors'"):
        metric.update("forget", [0.5])  # type: ignore[arg-type]
