"""What a metric class is checked with, and how its rows are dealt into other batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

Batch = Mapping[str, Any] | tuple[Any, ...]
"""The arguments of one `update`, by name or by place. What is a list or a tensor holds one entry a row."""


@dataclass(frozen=True)
class Case:
    """One metric on a few rows whose value is known.

    Attributes:
        make: Makes the metric.
        batches: Arguments of one `update` each.
        expected: The value of all rows, worked out by other means than the metric's.
        functional: Takes the rows of all batches and gives the value without the class; see `joined`.
    """

    make: Callable[[], Metric]
    batches: tuple[Batch, ...]
    expected: float | Mapping[str, float]
    functional: Callable[..., Any] | None = None


def call(function: Callable[..., Any], batch: Batch) -> Any:
    """Call with the arguments of a batch."""
    return function(*batch) if isinstance(batch, tuple) else function(**batch)


def on(function: Callable[..., Any]) -> Callable[[Batch], Any]:
    """A function of the rows as one of a batch, for `Case.functional`."""
    return lambda batch: call(function, batch)


def measured(metric: Metric, batches: Iterable[Batch]) -> Any:
    """The numbers of a metric after some updates."""
    for batch in batches:
        call(metric.update, batch)
    return numbers(metric.compute())


def numbers(value: Any) -> Any:
    """Tensors as plain numbers."""
    if isinstance(value, Mapping):
        return {name: numbers(own) for name, own in value.items()}
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value


def holds_rows(value: Any) -> bool:
    """Whether an argument has one entry a row; others say something of the whole batch."""
    return isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim > 0)


def changed(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    """A batch with every argument changed."""
    if isinstance(batch, tuple):
        return tuple(change(value) for value in batch)
    return {name: change(value) for name, value in batch.items()}


def dealt(batch: Batch, place: int, places: int) -> Batch:
    """The rows of one among several places, dealt in turn; perhaps none."""
    return changed(batch, lambda value: value[place::places] if holds_rows(value) else value)


def singly(batches: Iterable[Batch]) -> list[Batch]:
    """Batches of one row."""
    single = []
    for batch in batches:
        values = batch if isinstance(batch, tuple) else batch.values()
        rows = max(len(value) for value in values if holds_rows(value))
        single += [dealt(batch, row, rows) for row in range(rows)]
    return single


def joined(batches: Iterable[Batch]) -> list[Batch]:
    """As few batches as there can be: one for each set of arguments that hold no rows."""
    pools: list[Batch] = []
    for batch in batches:
        for place, pool in enumerate(pools):
            if _settings(pool) == _settings(batch):
                pools[place] = _both(pool, batch)
                break
        else:
            pools.append(batch)
    return pools


def in_precision(value: Any, dtype: torch.dtype) -> Any:
    """Lists of floats as tensors of `dtype`, inside lists too; whatever else there is stays."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(entry, float) for entry in value):
            return torch.tensor(value, dtype=dtype)
        return [in_precision(entry, dtype) for entry in value]
    return value


def _settings(batch: Batch) -> dict[Any, Any]:
    return {name: value for name, value in _named(batch).items() if not holds_rows(value)}


def _both(first: Batch, second: Batch) -> Batch:
    one, other = _named(first), _named(second)
    both = {name: _concatenated(one.get(name), other.get(name)) for name in {**one, **other}}
    return tuple(both.values()) if isinstance(first, tuple) else both


def _named(batch: Batch) -> dict[Any, Any]:
    return dict(enumerate(batch)) if isinstance(batch, tuple) else dict(batch)


def _concatenated(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    return [*first, *second] if holds_rows(first) else first
