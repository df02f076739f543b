"""Curves over the layers of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.figures import BLUE, GREEN, ORANGE


def layer_figure(curves: Mapping[str, Sequence[Interval]], measured: str, chance: float | None = None) -> Figure:
    """One curve a name, over the layers, with its interval.

    Args:
        curves: Up to three; of each layer, from the embeddings on, a number with its interval.
        measured: What the numbers are, with their unit; stands beside the axis.
        chance: Where a dashed line is drawn: what is had by chance.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for (name, values), colour in zip(curves.items(), (BLUE, ORANGE, GREEN), strict=False):
        layers = range(len(values))
        axis.plot(layers, [value.value for value in values], color=colour, marker="o", markersize=3, label=name)
        axis.fill_between(
            layers, [value.low for value in values], [value.high for value in values], color=colour, alpha=0.15, lw=0
        )
    if chance is not None:
        axis.axhline(chance, color="0.4", linestyle="--", linewidth=0.8, label="chance", zorder=0)
    axis.set_xlabel("layer (0: embeddings, n: behind block n)")
    axis.set_ylabel(measured)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize="small", frameon=False)
    return figure
