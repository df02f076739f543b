"""The area under the curve against a brute-force oracle, reference values and a model that memorised."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.membership import area_under_curve, area_under_curve_interval
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


def test_matches_the_reference_values() -> None:
    path = os.environ.get("SOUL_REFERENCE_VALUES")
    if not path:
        pytest.skip("SOUL_REFERENCE_VALUES does not name a file of reference values")
    for case in json.loads(Path(path).read_text())["scalar_metrics"]:
        (expected,) = [value for name, value in case.items() if name.startswith("mia_auc")]
        inputs = case["inputs"]
        found = area_under_curve(inputs["mia_forget_scores"], inputs["mia_holdout_scores"])
        assert found == pytest.approx(expected, abs=1e-6)


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
