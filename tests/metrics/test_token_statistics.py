"""What is read off the logits of each labelled token, against the definition, position by position."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from soul_lightning.metrics import token_statistics as module
from soul_lightning.metrics.token_statistics import TokenStatistics, token_statistics
from soul_lightning.networks.predictions import Predictions
from soul_lightning.protocols import IGNORE_INDEX

FIELDS = ("log_probs", "hits", "means", "variances")


def random_batch(seed: int, rows: int = 4, tokens: int = 7, vocabulary: int = 11) -> tuple[Tensor, Tensor]:
    """Logits and labels; the second row has no label."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, tokens, vocabulary, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocabulary, (rows, tokens), generator=generator)
    labels[torch.rand(rows, tokens, generator=generator) < 0.4] = IGNORE_INDEX
    labels[:, -1] = 0
    labels[1:2] = IGNORE_INDEX
    return logits, labels


def assert_same(found: TokenStatistics, expected: TokenStatistics) -> None:
    for name in FIELDS:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12)


def test_equals_the_definition_worked_out_by_hand() -> None:
    # p = (1/2, 1/4, 1/4) twice; the label is once the likeliest token and once another
    logits = torch.tensor([2.0, 1.0, 1.0]).mul(math.log(2)).expand(1, 3, 3)
    (row,) = token_statistics(Predictions.from_logits(logits, torch.tensor([[IGNORE_INDEX, 0, 2]]))).values()
    two = math.log(2)
    assert row.log_probs.tolist() == pytest.approx([-two, -2 * two])
    assert row.hits.tolist() == [True, False]
    assert row.means.tolist() == pytest.approx([-1.5 * two] * 2)
    assert row.variances.tolist() == pytest.approx([0.25 * two**2] * 2)


@given(seed=st.integers(0, 999), left=st.integers(0, 3), right=st.integers(0, 3))
def test_padding_changes_nothing(seed: int, left: int, right: int) -> None:
    logits, labels = random_batch(seed)
    padded = torch.nn.functional.pad(logits, (0, 0, left, right), value=50.0)
    padded_labels = torch.nn.functional.pad(labels, (left, right), value=IGNORE_INDEX)
    # the first token of a row has nothing before it; with padding on the left it would have the padding
    padded_labels[:, left] = IGNORE_INDEX
    before = token_statistics(Predictions.from_logits(logits, labels))
    after = token_statistics(Predictions.from_logits(padded, padded_labels))
    assert before.keys() == after.keys()
    for place, row in after.items():
        assert_same(row, before[place])


@given(seed=st.integers(0, 999), order=st.permutations(range(4)))
def test_the_order_of_rows_changes_nothing(seed: int, order: list[int]) -> None:
    logits, labels = random_batch(seed)
    before = token_statistics(Predictions.from_logits(logits, labels))
    after = token_statistics(Predictions.from_logits(logits[order], labels[order]))
    assert {order[place] for place in after} == set(before)
    for place, row in after.items():
        assert_same(row, before[order[place]])


@given(seed=st.integers(0, 999))
def test_rows_without_labels_are_skipped_and_nothing_is_nan(seed: int) -> None:
    logits, labels = random_batch(seed)
    rows = token_statistics(Predictions.from_logits(logits, labels))
    assert list(rows) == [0, 2, 3]
    assert [len(row) for row in rows.values()] == [int((labels[place, 1:] != IGNORE_INDEX).sum()) for place in rows]
    assert not any(torch.isnan(getattr(row, name)).any() for row in rows.values() for name in FIELDS)
    nothing = torch.full_like(labels, IGNORE_INDEX)
    assert token_statistics(Predictions.from_logits(logits, nothing)) == {}
    assert token_statistics(Predictions.from_logits(logits[:0], labels[:0])) == {}


def test_a_token_that_cannot_be_drawn_adds_nothing() -> None:
    logits = torch.tensor([1.0, 1.0, -torch.inf]).expand(1, 2, 3)
    (row,) = token_statistics(Predictions.from_logits(logits, torch.tensor([[IGNORE_INDEX, 0]]))).values()
    assert row.means.tolist() == pytest.approx([-math.log(2)])
    assert row.variances.tolist() == pytest.approx([0.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, labels = random_batch(0)
    logits = logits.to(dtype)
    exact = token_statistics(Predictions.from_logits(logits.double(), labels))
    for place, row in token_statistics(Predictions.from_logits(logits, labels)).items():
        for name in ("log_probs", "means", "variances"):
            values = getattr(row, name)
            assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            torch.testing.assert_close(values.double(), getattr(exact[place], name), rtol=1e-5, atol=1e-5)


def test_distributions_in_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = random_batch(3)
    whole = token_statistics(Predictions.from_logits(logits, labels))
    monkeypatch.setitem(module.ELEMENTS_AT_ONCE, "cpu", 2 * logits.shape[-1])
    for place, row in token_statistics(Predictions.from_logits(logits, labels)).items():
        assert_same(row, whole[place])


def test_no_gradient_is_kept() -> None:
    logits, labels = random_batch(0)
    rows = token_statistics(Predictions.from_logits(logits.requires_grad_(), labels))
    assert not any(getattr(row, name).requires_grad for row in rows.values() for name in FIELDS)


def test_tokens_followed_by_others_are_those_of_the_whole() -> None:
    logits, labels = random_batch(0)
    (whole,) = token_statistics(Predictions.from_logits(logits[:1], labels[:1])).values()
    cut = int((labels[0, 1:] != IGNORE_INDEX).nonzero()[0]) + 2
    first, rest = labels[:1].clone(), labels[:1].clone()
    first[:, cut:], rest[:, :cut] = IGNORE_INDEX, IGNORE_INDEX
    (one,) = token_statistics(Predictions.from_logits(logits[:1], first)).values()
    (other,) = token_statistics(Predictions.from_logits(logits[:1], rest)).values()
    assert (len(one), len(other)) == (1, len(whole) - 1)
    assert_same(one.followed_by(other), whole)
