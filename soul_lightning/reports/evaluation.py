"""What several callbacks measured of several models, as one table in the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

RELATIVE = "_relative"
"""End of the names of metrics that divide a model's number by that of the model before training."""
LOW, HIGH = "_low", "_high"
"""Ends of the names of an interval's two borders, beside the metric itself."""


@dataclass(frozen=True)
class EvaluationSection:
    """What one callback measured.

    Attributes:
        name: The metrics' group.
        columns: Metrics by name of each model, by the model's name.
    """

    name: str
    columns: Mapping[str, Mapping[str, float | None]]


def evaluation_table(sections: Sequence[EvaluationSection], title: str = "Evaluation") -> Table:
    """One row a metric, one column a model; 80 columns wide with four models.

    Intervals stand under their metric. What a model has no number for is a dash; metrics that no model has a number
    for are left out, and so are ratios of two columns (`…_relative`).

    Args:
        sections: In their order.
        title: Stands above the table.
    """
    models = list(dict.fromkeys(model for section in sections for model in section.columns))
    table = Table(title=title, title_justify="left")
    table.add_column("metric", overflow="fold")
    for model in models:
        table.add_column(Text(model), justify="right", overflow="fold")
    for section in sections:
        table.add_row(Text(section.name, style="bold"))
        for metric in metric_names(section):
            cells = [_cell(section.columns.get(model, {}), metric) for model in models]
            table.add_row(Text(f"  {metric}"), *cells)
        table.add_section()
    return table


def metric_names(section: EvaluationSection) -> list[str]:
    """The metrics that a model has a number for, without ratios and the borders of intervals."""
    columns = reversed(list(section.columns.values()))  # the last has been compared with all others
    names = dict.fromkeys(name for metrics in columns for name, value in metrics.items() if value is not None)
    borders = {name + end for name in names for end in (LOW, HIGH)}
    return [name for name in names if name not in borders and not name.endswith(RELATIVE)]


def _cell(metrics: Mapping[str, float | None], metric: str) -> Text:
    value = metrics.get(metric)
    if value is None:
        return Text("–")
    text = Text(readable(value))
    low, high = metrics.get(metric + LOW), metrics.get(metric + HIGH)
    if low is not None and high is not None:
        text.append(f"\n{readable(low)} to {readable(high)}", style="dim")
    return text


def readable(value: float) -> str:
    """A number in few characters: three digits that count, and a power of ten where it is far from 1."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"  # which rounds to 1000, that .3g writes as 1e+03
