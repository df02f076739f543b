"""What the metrics share: sums and rows in float64, gathered over processes by torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Array


class RowMetric(Metric):
    """Keeps one number a row in each of its columns; `compute` reads the columns of all rows of all processes.

    Sums of rows would be smaller, but most numbers of this field (ranks, quantiles, bootstrap intervals) cannot be had
    from sums. Rows of several processes stand one process behind the other, so that no result may depend on order.

    Args:
        columns: Names of the columns.
        settings: Of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, *columns: str, **settings: Any) -> None:
        # A process that had no row since the last `compute` would answer from a cache, and leave the others waiting.
        super().__init__(**{"compute_with_cache": False} | settings)
        self.columns = columns
        for column in columns:
            self.add_state(column, default=[], dist_reduce_fx="cat")

    @property
    def dtype(self) -> torch.dtype:
        """float64 always, also of the empty column of a process that had no row: gathering needs one precision."""
        return torch.float64

    def append(self, **columns: Iterable[float] | Tensor) -> None:
        """Add rows: one number a row for each column.

        Raises:
            MisconfigurationError: The columns have different lengths.
        """
        values = {name: self._as_tensor(column) for name, column in columns.items()}
        lengths = {name: len(value) for name, value in values.items()}
        if len(set(lengths.values())) > 1:
            raise MisconfigurationError(
                f"{type(self).__name__} needs one value a row in every argument, got "
                f"{', '.join(f'{length} of {name}' for name, length in lengths.items())}; give the same rows to each"
            )
        for name, value in values.items():
            getattr(self, name).append(value)

    def rows(self, column: str) -> Array:
        """[rows] one column, float64; empty where no row was added."""
        kept = getattr(self, column)
        if isinstance(kept, list) and not kept:
            return np.empty(0)
        return np.asarray(dim_zero_cat(kept).cpu().numpy(), dtype=np.float64)

    def _mean(self, column: str) -> Tensor:
        rows = self.rows(column)
        if not len(rows):
            raise MisconfigurationError(
                f"{type(self).__name__} is a mean over rows and has none; give update at least one row before compute"
            )
        return self._number(float(rows.mean()))

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        # A module that goes to half precision takes its metrics along: rows move to its device and keep their digits.
        return super()._apply(lambda state: state.to(fn(state.new_empty(0)).device), exclude_state)

    def _as_tensor(self, column: Iterable[float] | Tensor) -> Tensor:
        values = column.detach() if isinstance(column, Tensor) else torch.tensor(list(column), dtype=torch.float64)
        return values.to(device=self.device, dtype=torch.float64).flatten()
