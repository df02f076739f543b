"""Columns of rows: what is kept, in which precision, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric


class Sums(RowMetric):
    """Σ first · second."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("first", "second", **settings)

    def update(self, first: Sequence[float] | Tensor, second: Sequence[float] | Tensor) -> None:
        self.append(first=first, second=second)

    def compute(self) -> Tensor:
        return self._number(float((self.rows("first") * self.rows("second")).sum()))


THIRDS = [1 / 3, 2 / 3]


def test_rows_are_kept_in_order_whatever_they_come_in() -> None:
    metric = Sums()
    assert metric.rows("first").tolist() == []
    metric.append(first=THIRDS, second=torch.tensor([1, 2]))
    metric.append(first=np.array(THIRDS), second=torch.tensor([True, False]))
    metric.append(first=np.array([0.5], dtype=np.float32), second=torch.tensor([[0.25]], requires_grad=True))
    metric.append(first=(), second=torch.empty(0))
    assert metric.rows("first").tolist() == [*THIRDS, *THIRDS, 0.5]
    assert metric.rows("second").tolist() == [1, 2, 1, 0, 0.25]
    assert metric.rows("first").dtype == np.float64


def test_columns_of_different_lengths_are_refused_and_nothing_is_kept() -> None:
    metric = Sums()
    with pytest.raises(MisconfigurationError, match="2 of first, 1 of second; give the same rows"):
        metric.append(first=THIRDS, second=[1.0])
    assert metric.rows("first").tolist() == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_module_in_low_precision_leaves_the_rows_their_digits(dtype: torch.dtype) -> None:
    metric, layer = Sums(), nn.Linear(1, 1)
    metric.append(first=THIRDS, second=[3.0, 3.0])
    nn.ModuleList([metric, layer]).to(dtype)
    assert layer.weight.dtype == dtype
    metric.append(first=THIRDS, second=[0.0, 0.0])
    assert metric.dtype == torch.float64
    assert metric.rows("first").tolist() == [*THIRDS, *THIRDS]


def test_rows_go_along_to_another_device() -> None:
    metric = Sums()
    metric.append(first=THIRDS, second=THIRDS)
    metric.to("meta")
    assert metric.device.type == "meta"
    assert {state.device.type for column in metric.metric_state.values() for state in column} == {"meta"}


def test_a_process_without_a_new_row_still_takes_part() -> None:
    """An answer from a cache would leave the other processes waiting."""
    gathered: list[Tensor] = []

    def gather(column: Tensor, group: object) -> list[Tensor]:
        gathered.append(column)
        return [column, torch.tensor([2.0], dtype=column.dtype)]

    metric = Sums(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    metric.update([], [])
    for asked in (1, 2):
        assert metric.compute().item() == 4
        assert len(gathered) == 2 * asked
    assert {column.dtype for column in gathered} == {torch.float64}
    assert metric.rows("first").tolist() == []
