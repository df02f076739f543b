"""What a whole run looks like: what it forgot against what it kept, how its curvature clipped, how rows are spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soul_lightning.reports.figures import BLUE, GREEN, ORANGE
from soul_lightning.reports.grid_figure import COLOURS

Points = Mapping[int, float]
"""A number by the optimizer step at which it was measured."""
HEALTHY_WIN_RATE = (0.1, 0.5)
"""Between these Sophia neither clips nearly everything (sign descent) nor nearly nothing (Liu et al. 2024)."""
DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class Measured:
    """One number over a run.

    Attributes:
        label: What it is called.
        points: What it was.
        reading: How it is read: «0: no false answer is left»; may be empty.
    """

    label: str
    points: Points
    reading: str = ""

    @property
    def axis_label(self) -> str:
        """Its name, and below it how it is read."""
        return f"{self.label}\n({self.reading})" if self.reading else self.label


def trade_off_figure(forgotten: Sequence[Measured], kept: Measured) -> Figure | None:
    """The way that a run takes: up, how much is forgotten; to the right, how much is kept.

    Args:
        forgotten: A panel each.
        kept: On the axis across.

    Returns:
        A figure that belongs to no window; none where nothing was measured twice at the same steps.
    """
    pairs = [(each, sorted(set(each.points) & set(kept.points))) for each in forgotten]
    pairs = [(each, steps) for each, steps in pairs if len(steps) > 1]
    if not pairs:
        return None
    figure = Figure(figsize=(4.6, 0.6 + 2.7 * len(pairs)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(pairs), squeeze=False)[:, 0]
    for axis, (each, steps) in zip(panels, pairs, strict=True):
        x, y = [kept.points[step] for step in steps], [each.points[step] for step in steps]
        axis.plot(x, y, color=BLUE, marker="o", markersize=5, linewidth=1.5)
        axis.plot(x[:1], y[:1], color=ORANGE, marker="o", markersize=9, linestyle="", label=f"step {steps[0]}")
        axis.plot(x[-1:], y[-1:], color=GREEN, marker="s", markersize=9, linestyle="", label=f"step {steps[-1]}")
        axis.set_ylabel(each.axis_label)
        axis.margins(0.08)
        _plain(axis)
    panels[-1].set_xlabel(kept.axis_label)
    panels[0].legend(frameon=False, loc="best")
    return figure


def win_rate_figure(rates: Mapping[str, Points]) -> Figure | None:
    """The share of coordinates that second-order steps did not clip, over the run, and where it is healthy.

    Args:
        rates: By the name that the legend gives.

    Returns:
        A figure that belongs to no window; none without a number.
    """
    rates = {name: points for name, points in rates.items() if points}
    if not rates:
        return None
    figure, axis = _single()
    low, high = HEALTHY_WIN_RATE
    axis.axhspan(low, high, color=GREEN, alpha=0.12, linewidth=0, label=f"healthy: {low} to {high}")
    for number, (name, points) in enumerate(rates.items()):
        steps = sorted(points)
        marker = "o" if len(steps) == 1 else ""
        axis.plot(
            steps, [points[step] for step in steps], color=COLOURS[number % len(COLOURS)], marker=marker, label=name
        )
    axis.set(xlabel="optimizer step", ylabel="win rate (share not clipped)", ylim=(0, 1.02))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    return figure


def distribution_figure(title: str, label: str, samples: Mapping[str, Sequence[float]]) -> Figure | None:
    """Cumulative distributions, one line a sample: how large a share of its rows is at or below each number.

    Args:
        title: What is seen.
        label: What the numbers are, with their unit.
        samples: Numbers by the name that the legend gives.

    Returns:
        A figure that belongs to no window; none without a number.
    """
    samples = {name: values for name, values in samples.items() if len(values)}
    if not samples:
        return None
    figure, axis = _single()
    for number, (name, values) in enumerate(samples.items()):
        colour, style = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        axis.ecdf(np.asarray(values), color=colour, linestyle=style, linewidth=2, label=f"{name} ({len(values)} rows)")
    axis.set(xlabel=label, ylabel="share of rows at or below", ylim=(0, 1.02))
    axis.set_title(title, loc="left", fontsize="medium")
    axis.legend(frameon=False, fontsize="small")
    return figure


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    _plain(axis)
    return figure, axis


def _plain(axis: Axes) -> None:
    axis.grid(color="0.92", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
