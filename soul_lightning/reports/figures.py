"""Figures of what was measured, drawn without a display."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from soul_lightning.files import replaced_when_written
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.restoration import RestorationComparison

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
"""Of the Okabe–Ito palette, which people with any colour vision can tell apart."""


def restoration_figure(comparison: RestorationComparison) -> Figure:
    """Bars with intervals: true, false and control answers of each model, and beside them its restoration.

    Args:
        comparison: The models.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    models = list(comparison.scores)
    scores = list(comparison.scores.values())
    restored = any(score.restoration is not None for score in scores)
    figure = Figure(figsize=(4 + 1.3 * len(models), 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, width_ratios=[2, 1]) if restored else [figure.subplots()]
    series: list[tuple[str, str, list[Interval | None]]] = [
        ("true, corrupted people", BLUE, [score.accuracy_corrupted for score in scores]),
        ("false, corrupted people", ORANGE, [score.false_share for score in scores]),
        ("true, control people", GREEN, [score.accuracy_control for score in scores]),
    ]
    shown = [(label, colour, values) for label, colour, values in series if any(values)]
    width = 0.8 / len(shown)
    for number, (label, colour, values) in enumerate(shown):
        places = [place + (number - (len(shown) - 1) / 2) * width for place in range(len(models))]
        _bars(axes[0], places, values, width, colour, label)
    axes[0].set_ylim(0, 1.02)
    axes[0].set_ylabel("share of answers")
    # Above the bars: below them stand the names of the models, at any length.
    axes[0].legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(shown), frameon=False)
    if restored:
        _bars(axes[1], list(range(len(models))), [score.restoration for score in scores], 0.6, BLUE, "restoration")
        for level in (0, 1):
            axes[1].axhline(level, color="0.6", linewidth=0.8, zorder=0)
        axes[1].set_ylabel("restoration (0 corrupted, 1 clean)")
        axes[1].set_title("Restoration")
    for axis in axes:
        if len(models) > 3:
            axis.set_xticks(range(len(models)), models, rotation=25, ha="right", rotation_mode="anchor")
        else:
            axis.set_xticks(range(len(models)), models)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _bars(
    axis: Axes, places: list[float] | list[int], values: list[Interval | None], width: float, colour: str, label: str
) -> None:
    kept = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
    heights = [value.value for _, value in kept]
    # An interval of percentiles need not hold the number itself, and matplotlib wants lengths.
    below = [_length(value.value - value.low) for _, value in kept]
    above = [_length(value.high - value.value) for _, value in kept]
    middles = [place for place, _ in kept]
    axis.bar(middles, heights, width, yerr=[below, above], color=colour, label=label, capsize=2)


def _length(value: float) -> float:
    return 0.0 if math.isnan(value) else max(0.0, value)


def save_figure(figure: Figure, path: Path) -> None:
    """Save `figure` as PNG; the file is whole or not there."""
    with replaced_when_written(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
