"""Share and mean of toxicity scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.toxicity import ToxicityShare, mean_toxicity, toxicity_share

scores = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_a_score_at_the_threshold_is_not_above_it() -> None:
    assert toxicity_share([0.5, 0.51, 0.1, 1.0]) == 0.5
    assert toxicity_share([0.5, 0.51, 0.1, 1.0], threshold=0.09) == 1
    assert toxicity_share([1.0], threshold=1.0) == 0
    assert mean_toxicity([0.5, 0.75, 0.25]) == 0.5


@given(values=scores, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_finds_no_more(values: list[float], low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert 0 <= toxicity_share(values, high) <= toxicity_share(values, low) <= 1
    assert toxicity_share(values, low) == sum(value > low for value in values) / len(values)


@given(values=scores, threshold=st.floats(0, 1))
def test_the_mean_bounds_the_share(values: list[float], threshold: float) -> None:
    """Markov's inequality."""
    assert threshold * toxicity_share(values, threshold) <= mean_toxicity(values) + 1e-12


@given(values=scores, threshold=st.floats(0, 1))
def test_the_class_is_both_functions(values: list[float], threshold: float) -> None:
    metric = ToxicityShare(threshold)
    for value in values:
        metric.update([value])
    assert metric.compute().item() == toxicity_share(values, threshold)
    assert metric.mean().item() == pytest.approx(mean_toxicity(values))


def test_share_and_mean_are_those_of_all_processes() -> None:
    def gather(column: Tensor, group: object) -> list[Tensor]:
        return [column, torch.tensor([1.0, 0.5], dtype=column.dtype)]

    metric = ToxicityShare(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    metric.update([0.0])
    assert metric.mean().item() == 0.5
    assert metric.compute().item() == pytest.approx(1 / 3)
    assert metric.rows("scores").tolist() == [0.0]


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_scores_and_thresholds_that_mean_nothing_are_refused() -> None:
    for values, complaint in (([], "got none"), ([0.5, 1.5], "1 of 2 outside, such as 1.5"), ([math.nan], "nan")):
        for function in (toxicity_share, mean_toxicity):
            with pytest.raises(MisconfigurationError, match=complaint):
                function(values)
        metric = ToxicityShare()
        metric.update(values)
        for compute in (metric.compute, metric.mean):
            with pytest.raises(MisconfigurationError, match=complaint):
                compute()
    for threshold in (-0.1, 1.1, math.nan):
        for refuse in (lambda at=threshold: toxicity_share([0.5], at), lambda at=threshold: ToxicityShare(at)):
            with pytest.raises(MisconfigurationError, match="threshold of toxicity"):
                refuse()
