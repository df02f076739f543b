"""Drawn tokens come as often as they are likely, and depend on their row alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy import stats
from transformers import PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.scoring.generation import generated_answers
from soul_lightning.scoring.sampling import Sampling
from tests.scoring.test_generation import ROWS, TEMPLATE, varied_network

LOGITS = torch.tensor([2.0, -1.0, 1.0, 0.0, -400.0], dtype=torch.float64)
ROWS_DRAWN = 4000


def shares(sampling: Sampling, step: int = 0) -> torch.Tensor:
    """[vocabulary] how often each token was drawn."""
    drawn = sampling.tokens(LOGITS.expand(ROWS_DRAWN, -1), torch.arange(ROWS_DRAWN), step)
    return torch.bincount(drawn, minlength=len(LOGITS))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_they_are_likely(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(0)[:4]
    found = shares(Sampling(temperature))[:4]
    assert int(found.sum()) == ROWS_DRAWN
    assert stats.chisquare(found.numpy(), (expected / expected.sum() * ROWS_DRAWN).numpy()).pvalue > 0.01


def test_the_nucleus_is_the_fewest_tokens_that_reach_it() -> None:
    probabilities = LOGITS.softmax(0)  # 0.64, 0.03, 0.24, 0.09, 0
    assert (shares(Sampling(top_p=0.6)) > 0).tolist() == [True, False, False, False, False]
    found = shares(Sampling(top_p=0.7))
    assert (found > 0).tolist() == [True, False, True, False, False]
    kept = probabilities[[0, 2]]
    assert stats.chisquare(found[[0, 2]].numpy(), (kept / kept.sum() * ROWS_DRAWN).numpy()).pvalue > 0.01


def test_every_draw_seed_and_place_has_numbers_of_its_own() -> None:
    rows = torch.arange(64)
    logits = torch.zeros(64, 1000)
    said = [
        Sampling(seed=seed, draw=draw).tokens(logits, rows, step).tolist()
        for seed in (0, 1)
        for draw in (0, 1)
        for step in (0, 1)
    ]
    assert len({tuple(each) for each in said}) == len(said)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_batches_change_no_answer(tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
    network, sampling = varied_network(tokenizer), Sampling(temperature=2.0, seed=3)
    rows = [replace(row, index=10 + row.index) for row in ROWS]
    expected = generated_answers(network, tokenizer, rows, TEMPLATE, max_new_tokens=6, sampling=sampling)
    found = generated_answers(
        network, tokenizer, rows[::-1], TEMPLATE, max_new_tokens=6, batch_size=batch_size, sampling=sampling
    )
    assert found[::-1] == expected
    assert expected != generated_answers(network, tokenizer, rows, TEMPLATE, max_new_tokens=6)


def test_a_low_temperature_is_greedy(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer)
    cold = generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=8, sampling=Sampling(1e-3))
    assert cold == generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=8)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_nothing_can_be_drawn_by_that(settings: dict[str, float]) -> None:
    with pytest.raises(MisconfigurationError, match="temperature > 0 and 0 < top_p <= 1"):
        Sampling(**settings)
