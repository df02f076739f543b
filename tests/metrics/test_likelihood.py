"""Perplexity and probability, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import gmean
from torch import Tensor
from torchmetrics.text import Perplexity as TorchmetricsPerplexity

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.likelihood import (
    OptionProbability,
    Perplexity,
    Probability,
    option_probability,
    perplexity,
    sequence_probability,
)
from soul_lightning.networks.predictions import Predictions
from soul_lightning.protocols import IGNORE_INDEX

option = st.tuples(st.floats(0, 900), st.integers(1, 30))


def test_every_token_counts_the_same_in_perplexity() -> None:
    assert perplexity([math.log(2) * 1, math.log(8) * 3], [1, 3]) == pytest.approx(2 ** (10 / 4))
    assert perplexity([1e6], [1]) == math.inf


def test_every_row_counts_the_same_in_probability() -> None:
    assert sequence_probability([math.log(2) * 1, math.log(8) * 3], [1, 3]) == pytest.approx((1 / 2 + 1 / 8) / 2)


def test_rows_without_a_token_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="at least one token"):
        perplexity([], [])
    with pytest.raises(MisconfigurationError, match="at least one labelled token"):
        sequence_probability([1.0, 0.0], [1, 0])


def random_batch(seed: int, rows: int) -> tuple[Tensor, Tensor]:
    """Logits and labels; each row has a labelled token."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(11, (rows, 7), generator=generator)
    labels[torch.rand(rows, 7, generator=generator) < 0.4] = IGNORE_INDEX
    labels[:, -1] = 3
    return 3 * torch.randn(rows, 7, 11, generator=generator, dtype=torch.float64), labels


@given(seed=st.integers(0, 999), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_classes_equal_torchmetrics_and_scipy(seed: int, sizes: list[int]) -> None:
    probability, perplexity, oracle = Probability(), Perplexity(), TorchmetricsPerplexity(ignore_index=IGNORE_INDEX)
    oracle.set_dtype(torch.float64)
    means = []
    for number, rows in enumerate(sizes):
        logits, labels = random_batch(seed + number, rows)
        predictions = Predictions.from_logits(logits, labels)
        nlls = -predictions.row_sums(predictions.log_probs)
        for metric in (probability, perplexity):
            metric.update(nlls, predictions.tokens_per_row)
        oracle.update(logits[:, :-1], labels[:, 1:])
        token_probabilities = predictions.log_probs.exp().split(predictions.tokens_per_row.tolist())
        means += [gmean(own.numpy()) for own in token_probabilities]
    assert perplexity.compute().item() == pytest.approx(oracle.compute().item(), rel=1e-10)
    assert probability.compute().item() == pytest.approx(sum(means) / len(means), rel=1e-10)


@given(true=option, false=st.lists(option, min_size=1, max_size=6))
def test_option_probability_equals_the_softmax_of_mean_log_probabilities(
    true: tuple[float, int], false: list[tuple[float, int]]
) -> None:
    options = [true, *false]
    shares = [
        option_probability(*own, *map(list, zip(*(options[:place] + options[place + 1 :]), strict=True)))
        for place, own in enumerate(options)
    ]
    assert shares == pytest.approx(softmax([-nll / tokens for nll, tokens in options]).tolist(), abs=1e-12)
    assert sum(shares) == pytest.approx(1)


def test_options_that_cannot_be_compared_are_refused() -> None:
    for false in (([], []), ([1.0], [0]), ([math.nan], [1]), ([1.0, 2.0], [1])):
        with pytest.raises(MisconfigurationError, match="at least one other"):
            option_probability(1.0, 1, *false)
    metric = OptionProbability()
    with pytest.raises(MisconfigurationError, match="got 2 true NLLs with 2 token counts and 1 rows"):
        metric.update([1.0, 1.0], [1, 1], [[1.0]], [[1]])
    metric.update([], [], [], [])
    with pytest.raises(MisconfigurationError, match="OptionProbability is a mean over rows and has none"):
        metric.compute()


def test_classes_refuse_what_the_functions_refuse() -> None:
    for metric in (Probability(), Perplexity()):
        with pytest.raises(MisconfigurationError, match="2 of nlls, 1 of tokens"):
            metric.update([1.0, 2.0], [1])
        metric.update([1.0], [0])
        with pytest.raises(MisconfigurationError, match="at least one"):
            metric.compute()
