"""Plots as plain values: what is drawn, with its axes' names, apart from how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.strict_records import NUMBER, read_fields, read_list, read_mapping, read_numbers

Numbers = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a curve. Whatever sequences are given are kept as tuples; numbers that are not finite as none.

    Attributes:
        x: [points] where.
        y: [points] how much; none leaves a gap.
        low: [points] lower ends of the intervals; none without intervals.
        high: [points] upper ends.

    Raises:
        MisconfigurationError: The lengths differ, an x is not finite, or one end of the intervals is missing.
    """

    x: Sequence[float]
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None

    def __post_init__(self) -> None:
        """Keep plain finite values."""
        if (self.low is None) != (self.high is None):
            raise MisconfigurationError("a series has one end of its intervals only; give low and high, or neither")
        for name in ("x", "y", "low", "high"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != len(self.x):
                raise MisconfigurationError(f"a series has {len(self.x)} x and {len(values)} {name}; give as many")
            object.__setattr__(self, name, tuple(finite(value) for value in values))
        if None in self.x:
            raise MisconfigurationError("a series has an x that is no finite number; leave the point out")

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        ends = {"low": self.low, "high": self.high}
        lists = {name: None if values is None else list(values) for name, values in ends.items()}
        return {"x": list(self.x), "y": list(self.y)} | lists

    @classmethod
    def from_record(cls, record: Any) -> Series:
        """A series from what `record` gave.

        Raises:
            MisconfigurationError: It is something else.
        """
        fields = read_fields(record, "a series", x=list, y=list, low=(list, type(None)), high=(list, type(None)))
        fields |= {name: read_numbers(values, name) for name, values in fields.items() if values is not None}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Curve:
    """How a number changes over another: recovery over relearning steps, an area over layers.

    Attributes:
        title: What is seen.
        x_label: The axis across, with its unit: «relearning steps».
        y_label: The axis up, with its unit: «share of questions answered».
        series: By the name that the legend gives.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Series]

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        series = {name: each.record() for name, each in self.series.items()}
        return {"title": self.title, "x_label": self.x_label, "y_label": self.y_label, "series": series}

    @classmethod
    def from_record(cls, record: Any) -> Curve:
        """A curve from what `record` gave.

        Raises:
            MisconfigurationError: It is something else.
        """
        fields = read_fields(record, "a curve", title=str, x_label=str, y_label=str, series=dict)
        return cls(**fields | {"series": read_mapping(fields["series"], Series.from_record)})


@dataclass(frozen=True, slots=True)
class BarChart:
    """A number with its interval for each of several things: the success rate of every way of asking.

    Attributes:
        title: What is seen.
        x_label: The axis across, with its unit: «share of questions answered (0 to 1)».
        rows: Label and number, from top to bottom.
    """

    title: str
    x_label: str
    rows: Sequence[tuple[str, Interval]]

    def __post_init__(self) -> None:
        """Keep tuples."""
        object.__setattr__(self, "rows", tuple((label, value) for label, value in self.rows))

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [{"label": label} | interval_record(value) for label, value in self.rows]
        return {"title": self.title, "x_label": self.x_label, "rows": rows}

    @classmethod
    def from_record(cls, record: Any) -> BarChart:
        """A bar chart from what `record` gave.

        Raises:
            MisconfigurationError: It is something else.
        """
        fields = read_fields(record, "a bar chart", title=str, x_label=str, rows=list)
        return cls(**fields | {"rows": read_list(fields["rows"], _bar)})


def finite(value: float | None) -> float | None:
    """The number, or none where it is not finite, which strict JSON has no sign for."""
    return None if value is None or not math.isfinite(value) else float(value)


def interval_record(value: Interval) -> dict[str, float | None]:
    """Plain values, for JSON: an end that is not a number is none."""
    return {"value": finite(value.value), "low": finite(value.low), "high": finite(value.high)}


def interval_from(record: Mapping[str, Any]) -> Interval:
    """An interval from the three keys of `interval_record`: none is not a number."""
    ends = (record[name] for name in ("value", "low", "high"))
    return Interval(*(math.nan if end is None else float(end) for end in ends))


def _bar(record: Any) -> tuple[str, Interval]:
    fields = read_fields(record, "a bar", label=str, value=NUMBER, low=NUMBER, high=NUMBER)
    return fields["label"], interval_from(fields)
