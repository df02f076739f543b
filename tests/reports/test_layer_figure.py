"""Curves over layers, and their figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.charts import Series
from soul_lightning.reports.layer_figure import layer_curve, layer_figure


def test_lines_intervals_and_axes_are_drawn() -> None:
    curve = layer_curve("seen", "share", {"model": [Interval(0.5, 0.4, 0.6), Interval(0.9, 0.8, 0.95)]})
    curve = replace(curve, series={**curve.series, "guessing": Series((0, 1), (0.5, 0.5))})
    (axis,) = layer_figure(curve).axes
    assert (axis.get_title(), axis.get_ylabel()) == ("seen", "share") and axis.get_xlabel().startswith("layer (0: emb")
    assert [np.asarray(line.get_ydata()).tolist() for line in axis.lines] == [[0.5, 0.9], [0.5, 0.5]]
    (band,) = axis.collections
    edge = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (edge.min(), edge.max()) == (0.4, 0.95)
    assert axis.get_legend_handles_labels()[1] == ["model", "guessing"]
