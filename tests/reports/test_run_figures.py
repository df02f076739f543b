"""What a whole run looks like."""

from __future__ import annotations

import numpy as np
import pytest

from soul_lightning.reports.run_figures import Measured, distribution_figure, trade_off_figure, win_rate_figure

KEPT = Measured("control answers", {0: 0.9, 10: 0.8, 20: 0.95}, "true, control people")


def test_the_trade_off_goes_through_what_was_measured_at_the_same_steps() -> None:
    false = Measured("false answers", {20: 0.0, 0: 0.5, 15: 0.3}, "0: none is left")
    figure = trade_off_figure([false, Measured("elsewhere", {1: 0.5, 2: 0.4})], KEPT)
    assert figure is not None
    (axis,) = figure.axes
    way, first, last = axis.lines
    assert np.asarray(way.get_xydata()).tolist() == [[0.9, 0.5], [0.95, 0.0]]
    assert (first.get_label(), last.get_label()) == ("step 0", "step 20")
    assert axis.get_ylabel() == "false answers\n(0: none is left)"
    assert axis.get_xlabel() == "control answers\n(true, control people)"


def test_without_two_common_steps_there_is_no_trade_off() -> None:
    assert trade_off_figure([Measured("false answers", {20: 0.0, 30: 0.0})], KEPT) is None
    assert trade_off_figure([], KEPT) is None


def test_the_win_rate_is_drawn_beside_where_it_is_healthy() -> None:
    figure = win_rate_figure({"this run": {2: 0.3, 1: 0.2}, "none": {}})
    assert figure is not None
    (axis,) = figure.axes
    (line,) = axis.lines
    assert np.asarray(line.get_xydata()).tolist() == [[1, 0.2], [2, 0.3]]
    assert axis.get_legend_handles_labels()[1] == ["healthy: 0.1 to 0.5", "this run"]
    assert win_rate_figure({"none": {}}) is None


def test_a_distribution_is_cumulative() -> None:
    figure = distribution_figure("truth ratios", "R", {"before": [3.0, 1.0, 2.0, 4.0], "after": [1.0], "none": []})
    assert figure is not None
    (axis,) = figure.axes
    before, after = axis.lines
    assert (before.get_label(), after.get_label()) == ("before (4 rows)", "after (1 rows)")
    heights = dict(np.asarray(before.get_xydata()).tolist())
    assert heights[2.0] == pytest.approx(0.5) and heights[4.0] == pytest.approx(1.0)
    assert distribution_figure("", "", {"none": []}) is None
