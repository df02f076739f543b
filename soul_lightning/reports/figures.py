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
PALETTE = (ORANGE, BLUE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def restoration_figure(comparison: RestorationComparison) -> Figure:
    """Bars with intervals: true, false and control answers of each model, and below them its restoration.

    Args:
        comparison: The models.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    models = list(comparison.scores)
    scores = list(comparison.scores.values())
    panels = 2 if any(score.restoration is not None for score in scores) else 1
    figure = Figure(figsize=(max(4.6, 0.9 + 0.95 * len(models)), 0.4 + 2.7 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(panels, squeeze=False)[:, 0]
    series: list[tuple[str, str, list[Interval | None]]] = [
        ("true", BLUE, [score.accuracy_corrupted for score in scores]),
        ("false", ORANGE, [score.false_share for score in scores]),
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
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(shown), frameon=False)
    if panels == 2:
        _bars(axes[1], list(range(len(models))), [score.restoration for score in scores], 0.6, BLUE, "restoration")
        for level in (0, 1):
            axes[1].axhline(level, color="0.6", linewidth=0.8, zorder=0)
        axes[1].set_ylabel("restoration\n(0 corrupted, 1 clean)")
    for axis in axes:
        if len(models) > 4:
            axis.set_xticks(range(len(models)), models, rotation=25, ha="right", rotation_mode="anchor")
        else:
            axis.set_xticks(range(len(models)), models)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def relation_figure(comparison: RestorationComparison) -> Figure | None:
    """Bars with intervals: the restoration of each relation, by every model but the clean and the corrupted one.

    Args:
        comparison: The models.

    Returns:
        A figure that belongs to no window; none where the questions name no relation, or of none anything was lost.
    """
    beside = (comparison.clean, comparison.corrupted)
    found = {model: scores.per_relation for model, scores in comparison.scores.items() if model not in beside}
    if not found:
        return None
    last = list(found.values())[-1]
    lost = {name: value.value for name, value in last.items() if name and value is not None}
    relations = sorted(lost, key=lambda name: (lost[name], name))  # upwards: the most restored stands on top
    if not relations:
        return None
    figure = Figure(figsize=(4.6, 1.2 + (0.25 + 0.2 * len(found)) * len(relations)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    height = 0.8 / len(found)
    for number, (model, values) in enumerate(found.items()):
        places = [place - (number - (len(found) - 1) / 2) * height for place in range(len(relations))]
        colour = PALETTE[number % len(PALETTE)]
        _bars(axis, places, [values[name] for name in relations], height, colour, model, across=True)
    for level in (0, 1):
        axis.axvline(level, color="0.6", linewidth=0.8, zorder=0)
    drawn = [value.value for each in found.values() for value in each.values() if value is not None]
    axis.set_xlim(min(-0.1, min(drawn) - 0.1), max(1.1, max(drawn) + 0.1))  # whatever an interval of little says
    axis.set_yticks(range(len(relations)), relations)
    axis.set_xlabel("restoration (0 corrupted, 1 clean)")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(3, len(found)), frameon=False)
    return figure


def _bars(
    axis: Axes,
    places: list[float] | list[int],
    values: list[Interval | None],
    width: float,
    colour: str,
    label: str,
    across: bool = False,
) -> None:
    kept = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
    lengths = [value.value for _, value in kept]
    # An interval of percentiles need not hold the number itself, and matplotlib wants lengths.
    below = [_length(value.value - value.low) for _, value in kept]
    above = [_length(value.high - value.value) for _, value in kept]
    middles = [place for place, _ in kept]
    if across:
        axis.barh(middles, lengths, width, xerr=[below, above], color=colour, label=label, capsize=2)
    else:
        axis.bar(middles, lengths, width, yerr=[below, above], color=colour, label=label, capsize=2)


def _length(value: float) -> float:
    return 0.0 if math.isnan(value) else max(0.0, value)


def save_figure(figure: Figure, path: Path) -> None:
    """Save `figure` as PNG; the file is whole or not there."""
    with replaced_when_written(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
