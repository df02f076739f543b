"""Scores that start from a row's loss, worked out by hand; that they find members is shown in test_memorising_model."""

from __future__ import annotations

import math
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.attack_scores import loss_score, lowercase_score, reference_score, zlib_score
from soul_lightning.metrics.membership_scores import min_k

log_probs = st.lists(st.floats(-20, 0), min_size=1, max_size=30)
losses = st.floats(1e-6, 30)


@given(values=log_probs)
def test_the_loss_is_the_mean_nll_and_min_k_of_all_tokens(values: list[float]) -> None:
    row = torch.tensor(values, dtype=torch.float64)
    assert loss_score(row) == pytest.approx(-math.fsum(values) / len(values), abs=1e-12)
    assert loss_score(row) == pytest.approx(min_k(row, 1.0), abs=1e-12)


def test_low_precision_is_averaged_in_high() -> None:
    row = torch.full((3000,), -1.001, dtype=torch.bfloat16)
    assert loss_score(row) == -float(row[0])


def test_zlib_divides_by_the_bytes_of_the_compressed_text() -> None:
    for text in ("", "a red bird", "a red bird " * 20, "Müller, 東京"):
        assert zlib_score(3.0, text) == 3.0 / len(zlib.compress(bytes(text, "utf-8")))
    # Of two texts of a length the one that repeats itself owes its low loss to that.
    assert zlib_score(1.0, "tick tock tick tock tick tock") > zlib_score(1.0, "a judge from oslo plays harps")


@given(loss=losses, reference=losses)
def test_the_reference_is_taken_off(loss: float, reference: float) -> None:
    assert reference_score(loss, reference) == -reference_score(reference, loss)
    assert (reference_score(loss, reference) < 0) == (loss < reference)


@given(loss=losses, lower=losses, factor=st.floats(0.1, 10))
def test_lower_casing_in_units_of_the_loss(loss: float, lower: float, factor: float) -> None:
    assert lowercase_score(loss, lower) == pytest.approx(-lower / loss)
    assert lowercase_score(factor * loss, factor * lower) == pytest.approx(lowercase_score(loss, lower))
    assert (lowercase_score(loss, lower) < -1) == (lower > loss)


def test_rows_without_any_loss() -> None:
    assert lowercase_score(0.0, 2.0) == -math.inf
    assert lowercase_score(0.0, 0.0) == lowercase_score(2.0, 2.0) == -1


def test_rows_without_a_token_are_refused() -> None:
    for row in (torch.zeros(0), torch.zeros(2, 3)):
        with pytest.raises(MisconfigurationError, match="leave out rows without an answer"):
            loss_score(row)
