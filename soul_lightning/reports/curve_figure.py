"""Curves side by side, as a figure for TensorBoard and for a file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from soul_lightning.reports.charts import Curve
from soul_lightning.reports.grid_figure import COLOURS, MARKERS


def curve_figure(curves: Sequence[Curve]) -> Figure:
    """A column of panels for each title, a row for each axis up; a name has one colour in all of them.

    Args:
        curves: At least one, of shares from 0 to 1; the axes across are the same.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    titles, labels = (list(dict.fromkeys(getattr(curve, name) for curve in curves)) for name in ("title", "y_label"))
    names = list(dict.fromkeys(name for curve in curves for name in curve.series))
    figure = Figure(figsize=(max(5.0, 4.0 * len(titles)), 0.8 + 2.9 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(labels), len(titles), squeeze=False, sharex=True, sharey=True)
    lines = {}
    for curve in curves:
        axis = panels[labels.index(curve.y_label)][titles.index(curve.title)]
        for name, series in curve.series.items():
            number = names.index(name)
            y = [math.nan if value is None else value for value in series.y]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            (lines[name],) = axis.plot(list(series.x), y, color=colour, marker=marker)
        axis.set(ylim=(-0.02, 1.02))
        axis.spines[["top", "right"]].set_visible(False)
    for row, label in zip(panels, labels, strict=True):
        row[0].set_ylabel(label)
    for axis, title in zip(panels[0], titles, strict=True):
        axis.set_title(title, fontsize="medium")
    for axis in panels[-1]:
        axis.set_xlabel(curves[0].x_label)
    figure.legend([lines[name] for name in names], names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure
