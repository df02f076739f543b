"""The area under the curve against a brute-force oracle and a model that memorised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.membership import (
    MembershipArea,
    PrivLeak,
    area_under_curve,
    area_under_curve_interval,
    privleak,
)
from soul_lightning.networks.forward import label_predictions
from soul_lightning.protocols import Example
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scorer import Scorer

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=20)


def pairs(forget: list[float], holdout: list[float]) -> float:
    """The definition, pair by pair."""
    wins = sum((a < b) + 0.5 * (a == b) for a in forget for b in holdout)
    return wins / (len(forget) * len(holdout))


@given(forget=scores, holdout=scores)
def test_equals_the_definition(forget: list[float], holdout: list[float]) -> None:
    assert area_under_curve(forget, holdout) == pytest.approx(pairs(forget, holdout))
    assert area_under_curve(forget, holdout) + area_under_curve(holdout, forget) == pytest.approx(1)


@given(forget=scores, holdout=scores, parts=st.integers(1, 4))
def test_equals_scikit_learn(forget: list[float], holdout: list[float], parts: int) -> None:
    expected = roc_auc_score([0] * len(forget) + [1] * len(holdout), forget + holdout)
    assert area_under_curve(forget, holdout) == pytest.approx(expected)
    metric = MembershipArea()
    for part in range(parts):
        metric.update(forget[part::parts], holdout[part::parts])
    assert metric.compute().item() == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(forget=scores, holdout=scores)
def test_the_interval_holds_the_area(forget: list[float], holdout: list[float]) -> None:
    interval = area_under_curve_interval(forget, holdout, n_resamples=300)
    assert interval.value == area_under_curve(forget, holdout)
    assert 0 <= interval.low <= interval.high <= 1
    assert interval == area_under_curve_interval(forget, holdout, n_resamples=300)


def test_rows_of_one_entity_are_drawn_together() -> None:
    forget, holdout = [1.0] * 5 + [3.0] * 5, [2.0] * 10
    apart = area_under_curve_interval(forget, holdout)
    together = area_under_curve_interval(forget, holdout, forget_entities=["ada"] * 5 + ["bela"] * 5)
    assert apart.value == together.value == 0.5
    assert (together.low, together.high) == (0.0, 1.0)
    assert apart.low > 0 and apart.high < 1


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="the holdout set"):
        area_under_curve([1.0], [])
    with pytest.raises(MisconfigurationError, match="not numbers"):
        area_under_curve([float("nan")], [1.0])


@given(forget=scores, holdout=scores)
def test_a_model_like_the_retain_only_one_leaks_nothing(forget: list[float], holdout: list[float]) -> None:
    area = area_under_curve(forget, holdout)
    assert area == 1 or privleak(area, area) == 0
    assert privleak(area, 0.5) == pytest.approx(-privleak(area_under_curve(holdout, forget), 0.5))


def test_privacy_leaks_both_ways() -> None:
    assert privleak(1.0, 0.6) == -100
    assert privleak(0.5, 0.6) == pytest.approx(25)
    for area, retain_area in ((0.5, 1.0), (1.2, 0.5), (float("nan"), 0.5), (0.5, -0.1)):
        with pytest.raises(MisconfigurationError, match="PrivLeak needs"):
            privleak(area, retain_area)
    with pytest.raises(MisconfigurationError, match="PrivLeak needs"):
        PrivLeak(retain_area=1.0)


def test_a_set_that_never_came_is_named() -> None:
    for metric in (MembershipArea(), PrivLeak(0.5)):
        metric.update(forget_scores=[1.0])
        with pytest.raises(MisconfigurationError, match="the holdout set of the membership attack is empty"):
            metric.compute()


def test_a_model_that_memorised_is_found_out(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    words = [word for word in tokenizer.get_vocab() if word.isalpha()]
    generator = torch.Generator().manual_seed(0)
    texts = [" ".join(words[k] for k in torch.randint(len(words), (8,), generator=generator)) for _ in range(24)]
    forget, holdout = ([Example(text, index=k) for k, text in enumerate(part)] for part in (texts[:12], texts[12:]))
    batch = collate(encode(forget, tokenizer), 0)
    optimizer = torch.optim.AdamW(tiny_network.parameters(), lr=1e-2)

    def area() -> float:
        scorer = Scorer(CausalLMAdapter(tiny_network, tokenizer))
        return area_under_curve(*([score.mean_nll for score in scorer(part)] for part in (forget, holdout)))

    before = area()
    for _ in range(40):
        loss = -label_predictions(tiny_network, batch).log_probs.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0.1 < before < 0.9
    assert area() > 0.9
