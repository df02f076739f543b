"""What is read off logits does not depend on padding, batches, order or the precision of the logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.protocols import IGNORE_INDEX
from tests.metrics.teacher_forced import Row, all_readings, in_precision, readings

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-5}


def random_rows(seed: int, lengths: tuple[int, ...], vocabulary: int = 9) -> list[Row]:
    """Rows whose labels are often the model's first choice; some positions are unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for tokens in lengths:
        logits = 3 * torch.randn(tokens, vocabulary, generator=generator, dtype=torch.float64)
        labels = torch.randint(vocabulary, (tokens,), generator=generator)
        first_choice = torch.rand(tokens - 1, generator=generator) < 0.6
        labels[1:] = torch.where(first_choice, logits[:-1].argmax(dim=-1), labels[1:])
        labels[1:-1][torch.rand(tokens - 2, generator=generator) < 0.3] = IGNORE_INDEX
        labels[0] = IGNORE_INDEX
        rows.append((logits, labels))
    return rows


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=15)
@given(seed=st.integers(0, 999), lengths=st.tuples(*[st.integers(2, 9)] * 5))
def test_padding_batches_order_and_precision_change_nothing(
    dtype: torch.dtype, seed: int, lengths: tuple[int, ...]
) -> None:
    rows = in_precision(random_rows(seed, lengths), dtype)
    exact = readings(in_precision(rows, torch.float64), "right", len(rows), range(len(rows)))
    for found in all_readings(rows):
        assert found == pytest.approx(exact, rel=TOLERANCE[dtype])
