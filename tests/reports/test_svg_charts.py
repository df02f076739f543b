"""Plots: every number at its place, gaps left open, series told apart without colour, words that are only words."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.charts import BarChart, Curve, Series
from soul_lightning.reports.svg_charts import WIDTH, bars_svg, curve_svg
from tests.reports.sample_audit import HOSTILE

Element = ElementTree.Element
FINITE = st.floats(-1e9, 1e9)


def curve(**series: Series) -> Element:
    drawn = curve_svg(Curve("title", "steps", "share answered", series))
    assert drawn is not None
    return ElementTree.fromstring(drawn)


def bars(*rows: tuple[str, Interval]) -> Element:
    drawn = bars_svg(BarChart("title", "share", rows))
    assert drawn is not None
    return ElementTree.fromstring(drawn)


def of_class(svg: Element, name: str) -> list[Element]:
    return [each for each in svg.iter() if name in each.get("class", "").split()]


def points(path: Element) -> list[tuple[float, float]]:
    places = [place.split() for place in path.attrib["d"][1:].split("L")]
    return [(float(x), float(y)) for x, y in places]


def words(svg: Element, name: str) -> list[str]:
    return [each.text or "" for each in of_class(svg, name)]


def test_shares_are_drawn_on_an_axis_from_0_to_1() -> None:
    svg = curve(a=Series([0, 5, 10], [0.1, 0.2, 0.3]))
    ticks = {
        text.text: float(text.attrib["y"]) - 4 for text in of_class(svg, "tick") if text.get("text-anchor") == "end"
    }
    assert {"0", "1"} <= set(ticks)
    places = points(of_class(svg, "line")[0])
    for (_, y), value in zip(places, (0.1, 0.2, 0.3), strict=True):
        assert math.isclose(y, ticks["0"] + value * (ticks["1"] - ticks["0"]), abs_tol=0.2)
    assert math.isclose(places[1][0], (places[0][0] + places[2][0]) / 2, abs_tol=0.2)


def test_axes_have_their_names_and_the_picture_its_own() -> None:
    svg = curve(a=Series([0, 1], [3, 4]))
    assert words(svg, "up") == ["share answered"]
    assert words(svg, "across") == ["steps"]
    assert svg.attrib["role"] == "img"
    assert svg[0].tag == "title" and svg[0].text == "title: share answered over steps"
    assert words(bars(("a", Interval(0.5, 0.4, 0.6))), "across") == ["share"]


def test_a_gap_is_left_open() -> None:
    series = Series([0, 1, 2, 3, 4], [0.1, 0.2, None, 0.3, 0.4], [0, 0.1, None, 0.2, None], [0.2, 0.3, None, 0.4, None])
    svg = curve(a=series)
    assert [len(points(line)) for line in of_class(svg, "line")] == [2, 2]
    assert len(of_class(svg, "band")) == 1 and len(of_class(svg, "whisker")) == 1  # of two points, and of one


def test_bands_reach_from_low_to_high() -> None:
    svg = curve(a=Series([0, 1], [0.5, 0.5], [0.25, 0.25], [0.75, 0.75]))
    corners = [tuple(map(float, each.split(","))) for each in of_class(svg, "band")[0].attrib["points"].split()]
    (_, middle), _ = points(of_class(svg, "line")[0])
    assert [round(y - middle, 1) for _, y in corners] == [50.0, 50.0, -50.0, -50.0]  # the plot is 200 high


def test_series_differ_in_more_than_colour() -> None:
    svg = curve(**{f"s{number}": Series([0, 1], [number, number + 1]) for number in range(12)})
    lines = of_class(svg, "line")
    markers = of_class(svg, "marker")[::2]
    assert len(lines) == len(markers) == 12

    def shape(marker: Element) -> str:
        places = [list(map(float, each.split(","))) for each in marker.get("points", "").split()]
        return repr([(round(x - places[0][0], 1), round(y - places[0][1], 1)) for x, y in places])

    looks = {(line.get("stroke-dasharray"), shape(marker)) for line, marker in zip(lines, markers, strict=True)}
    assert len(looks) == 12


def test_a_bar_reaches_from_zero_to_its_number_with_its_interval() -> None:
    svg = bars(("up", Interval(0.5, 0.25, 0.75)), ("down", Interval(-0.5, -0.75, -0.25)))
    zero, up, down = (svg.findall("rect")[0].attrib, *(each.attrib for each in svg.findall("rect")))
    start = float(zero["x"])
    assert math.isclose(float(down["x"]) + float(down["width"]), start, abs_tol=0.2)
    assert math.isclose(float(up["width"]), float(down["width"]), abs_tol=0.2)
    whiskers = of_class(svg, "whisker")
    low, high = float(whiskers[0].attrib["x1"]), float(whiskers[0].attrib["x2"])
    assert math.isclose((low + high) / 2, start + float(up["width"]), abs_tol=0.2)
    assert math.isclose(high - low, float(up["width"]), abs_tol=0.2)
    assert words(svg, "number") == ["0.50 [0.25, 0.75]", "−0.50 [−0.75, −0.25]"]


def test_without_numbers_there_is_no_picture() -> None:
    assert curve_svg(Curve("t", "x", "y", {})) is None
    assert curve_svg(Curve("t", "x", "y", {"a": Series([1], [None])})) is None
    assert bars_svg(BarChart("t", "x", [])) is None
    assert bars_svg(BarChart("t", "x", [("a", Interval(math.nan, 0, 1))])) is None


def test_one_number_without_meaning_leaves_its_row_empty() -> None:
    svg = bars(("none", Interval(math.nan, math.nan, math.nan)), ("some", Interval(0.5, math.nan, math.nan)))
    assert len(svg.findall("rect")) == 1 and not of_class(svg, "whisker")
    assert words(svg, "number") == ["–", "0.50 [–, –]"]


def test_words_stay_words() -> None:
    drawn = bars_svg(BarChart(HOSTILE, HOSTILE, [(HOSTILE, Interval(0.5, 0.4, 0.6))]))
    assert drawn is not None
    assert "<script" not in drawn and "<img" not in drawn
    assert "".join(words(ElementTree.fromstring(drawn), "label")).startswith("<script>")


def test_long_curves_have_few_markers() -> None:
    svg = curve(a=Series(range(1000), [math.sin(step / 99) for step in range(1000)]))
    assert len(points(of_class(svg, "line")[0])) == 1000
    assert len(of_class(svg, "marker")) <= 25


@given(st.lists(st.tuples(FINITE, FINITE, FINITE, FINITE), min_size=1, max_size=5))
def test_any_numbers_stand_inside_of_the_picture(rows: list[tuple[float, float, float, float]]) -> None:
    x, y, low, high = map(list, zip(*rows, strict=True))
    svg = curve(a=Series(x, y, low, high))
    height = float(svg.attrib["viewBox"].split()[3])
    for line in of_class(svg, "line"):
        assert all(0 <= right <= WIDTH and 0 <= down <= height for right, down in points(line))
    ticks = words(svg, "tick")
    assert len(ticks) >= 4 and "nan" not in "".join(ticks)
    drawn = bars(*(("label", Interval(*row[:3])) for row in rows))
    for bar in drawn.findall("rect"):
        assert 0 <= float(bar.attrib["x"]) and float(bar.attrib["x"]) + float(bar.attrib["width"]) <= WIDTH
