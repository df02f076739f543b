"""Exact memorisation and extraction strength, against the definition and at the edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.memorization import (
    ExactMemorization,
    ExtractionStrength,
    exact_memorization,
    extraction_strength,
)

hits = st.lists(st.booleans(), min_size=1, max_size=12)


def strength(values: list[bool]) -> float:
    """The definition: the shortest prefix after which everything is right."""
    shortest = next(k for k in range(len(values) + 1) if all(values[k:]))
    return 1 - shortest / len(values)


@given(values=hits)
def test_equals_the_definition(values: list[bool]) -> None:
    assert extraction_strength(torch.tensor(values)) == strength(values)
    assert exact_memorization(torch.tensor(values)) == sum(values) / len(values)


@given(values=hits)
def test_what_can_be_extracted_is_memorised(values: list[bool]) -> None:
    row = torch.tensor(values)
    assert 0 <= extraction_strength(row) <= exact_memorization(row) + 1e-12
    assert exact_memorization(row) <= 1
    assert (extraction_strength(row) == 1) == all(values)


@given(values=hits)
def test_a_wrong_last_token_leaves_nothing_to_extract(values: list[bool]) -> None:
    assert extraction_strength(torch.tensor([*values, False])) == 0


@given(values=hits, seed=st.integers(0, 99))
def test_exact_memorisation_does_not_mind_the_order(values: list[bool], seed: int) -> None:
    row = torch.tensor(values)
    order = torch.randperm(len(row), generator=torch.Generator().manual_seed(seed))
    assert exact_memorization(row[order]) == exact_memorization(row)


def test_a_row_without_labels_is_refused() -> None:
    nothing = torch.zeros(0, dtype=torch.bool)
    for metric in (exact_memorization, extraction_strength):
        with pytest.raises(MisconfigurationError, match="leave out rows without an answer"):
            metric(nothing)
        with pytest.raises(MisconfigurationError, match="of one row"):
            metric(torch.ones(2, 3, dtype=torch.bool))


@given(rows=st.lists(hits, min_size=1, max_size=6))
def test_the_classes_are_means_over_rows_and_agree_with_scikit_learn(rows: list[list[bool]]) -> None:
    memorization, extraction = ExactMemorization(), ExtractionStrength()
    for row in rows:
        for metric in (memorization, extraction):
            metric.update([torch.tensor(row)])
    accuracies = [accuracy_score([True] * len(row), row) for row in rows]
    assert memorization.compute().item() == pytest.approx(sum(accuracies) / len(rows))
    assert extraction.compute().item() == pytest.approx(sum(map(strength, rows)) / len(rows))


def test_classes_without_a_row_say_so() -> None:
    for metric in (ExactMemorization(), ExtractionStrength()):
        metric.update([])
        with pytest.raises(MisconfigurationError, match=f"{type(metric).__name__} is a mean over rows and has none"):
            metric.compute()
        with pytest.raises(MisconfigurationError, match="leave out rows without an answer"):
            metric.update([torch.zeros(0, dtype=torch.bool)])
