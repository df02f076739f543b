"""Perplexity and probability, worked out by hand."""

from __future__ import annotations

import math

import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.likelihood import perplexity, sequence_probability


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
