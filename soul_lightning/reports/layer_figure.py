"""Numbers over the layers of a network: as a curve of a report, and as a figure for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.charts import Curve, Numbers, Series
from soul_lightning.reports.grid_figure import COLOURS, MARKERS


def layer_curve(title: str, measured: str, layers: Mapping[str, Sequence[Interval]]) -> Curve:
    """One line a name, with its interval.

    Args:
        title: What is seen.
        measured: What the numbers are, with their unit.
        layers: By the name that the legend gives: a number of each layer, from the embeddings on.
    """
    series = {
        name: Series(
            range(len(values)),
            [each.value for each in values],
            [each.low for each in values],
            [each.high for each in values],
        )
        for name, values in layers.items()
    }
    return Curve(title, "layer (0: embeddings, n: behind block n)", measured, series)


def layer_figure(curve: Curve) -> Figure:
    """A curve with the intervals of its lines.

    Args:
        curve: What `layer_curve` makes, or one with further lines.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for number, (name, series) in enumerate(curve.series.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        axis.plot(series.x, _drawn(series.y), color=colour, marker=marker, markersize=3, label=name)
        if series.low is not None and series.high is not None:
            axis.fill_between(series.x, _drawn(series.low), _drawn(series.high), color=colour, alpha=0.15, linewidth=0)
    axis.set(title=curve.title, xlabel=curve.x_label, ylabel=curve.y_label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", frameon=False)
    return figure


def _drawn(values: Numbers) -> list[float]:
    return [math.nan if value is None else value for value in values]
