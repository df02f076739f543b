"""Forgetting and restoration against utility: where every objective × optimizer ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.restoration_draws import ModelScores
from soul_lightning.reports.grid import GridComparison

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe–Ito, which people with any colour vision can tell apart; one an optimizer."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One an objective."""
BESIDE = "0.45"
"""The grey of the models that were not tuned."""
LEAST_INCHES = 7.0
"""Width of a figure: a legend's names stand side by side in it."""
Number = Callable[[ModelScores], Interval | None]


def forget_utility_figure(grid: GridComparison) -> Figure:
    """Up: fewer false answers (left), more restoration (right). To the right: more of what should be kept.

    Without control questions nothing says what was kept: one panel shows forgetting over true answers instead. A pair
    that diverged is not drawn.

    Args:
        grid: The comparison.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    has_control = grid.first.control_facts > 0
    across = _control if has_control else _true
    panels: list[tuple[str, Number]] = [("forgetting (1 − share of false answers)", _forgetting)]
    if has_control and any(scores.restoration for scores in grid.scores.values()):
        panels.append(("restoration (0 corrupted, 1 clean)", lambda scores: scores.restoration))
    figure = Figure(figsize=(max(LEAST_INCHES, 5.2 * len(panels)), 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    objectives = list(dict.fromkeys(pair.objective for pair in grid.pairs.values()))
    optimizers = list(dict.fromkeys(pair.optimizer for pair in grid.pairs.values()))
    for axis, (label, up) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, scores in grid.scores.items():
            pair = grid.pairs.get(name)
            if pair is None:
                _point(axis, across(scores), up(scores), BESIDE, "o", name)
            else:
                colour = COLOURS[optimizers.index(pair.optimizer) % len(COLOURS)]
                marker = MARKERS[objectives.index(pair.objective) % len(MARKERS)]
                _point(axis, across(scores), up(scores), colour, marker)
        axis.set_xlabel(
            "utility (accuracy on control people)"
            if has_control
            else "true answers about corrupted people (no control questions)"
        )
        axis.set_ylabel(label)
        axis.set_title(f"bars: {100 * grid.first.confidence:g} % intervals", loc="left", fontsize="medium", color="0.3")
        axis.grid(color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.margins(x=0.12)  # for the names beside the points
        axis.spines[["top", "right"]].set_visible(False)
    colours = [
        Line2D([], [], color=COLOURS[number % len(COLOURS)], linewidth=4, label=name)
        for number, name in enumerate(optimizers)
    ]
    markers = [
        Line2D([], [], color="0.2", marker=MARKERS[number % len(MARKERS)], linestyle="", markersize=8, label=name)
        for number, name in enumerate(objectives)
    ]
    inches = figure.get_figwidth()
    plain = {"frameon": False, "fontsize": "large"}
    figure.legend(handles=colours, loc="outside upper center", ncols=_legend_columns(optimizers, inches), **plain)
    figure.legend(handles=markers, loc="outside lower center", ncols=_legend_columns(objectives, inches), **plain)
    return figure


def _legend_columns(names: Sequence[str], inches: float) -> int:
    """So many that they fit side by side, all if they do, and that no name stands alone on the last line."""
    columns = len(names)
    widths = [0.7 + 0.1 * len(name) for name in names]
    if sum(widths) <= inches:
        return columns
    while columns > 2 and (columns * max(widths) > inches or len(names) % columns == 1):
        columns -= 1
    return columns


def _control(scores: ModelScores) -> Interval | None:
    return scores.accuracy_control


def _true(scores: ModelScores) -> Interval | None:
    return scores.accuracy_corrupted


def _forgetting(scores: ModelScores) -> Interval:
    false = scores.false_share
    return Interval(1 - false.value, 1 - false.high, 1 - false.low)


def _point(axis: Axes, across: Interval | None, up: Interval | None, colour: str, marker: str, name: str = "") -> None:
    if across is None or up is None or math.isnan(across.value) or math.isnan(up.value):
        return
    axis.errorbar(
        [across.value],
        [up.value],
        xerr=_lengths(across),
        yerr=_lengths(up),
        color=colour,
        marker=marker,
        markersize=8,
        markerfacecolor="white" if name else colour,
        markeredgecolor=colour if name else "white",
        elinewidth=1,
        alpha=0.9,
        zorder=2 if name else 3,
    )
    if name:
        axis.annotate(name, (across.value, up.value), xytext=(7, 7), textcoords="offset points", color=BESIDE)


def _lengths(interval: Interval) -> list[list[float]]:
    """Below and above; an interval of percentiles need not hold the number itself, and matplotlib wants lengths."""
    below, above = interval.value - interval.low, interval.high - interval.value
    return [[0.0 if math.isnan(length) else max(0.0, length)] for length in (below, above)]
