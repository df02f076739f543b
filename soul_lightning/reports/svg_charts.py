"""Curves and bars as SVG that stands inside of a page: its colours are the page's, its words are text.

The colours are the classes `series-0` to `series-6`, `axis`, `grid` and `quiet` of the page's style sheet. A picture is
400 units wide, so that its words can be read in a column of 350 pixels as well as in one of 480.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.text import Text

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.audit_contents import interval_text, number_text
from soul_lightning.reports.charts import BarChart, Curve, Series

WIDTH = 400.0
COLOURS = 7
"""After so many series the colours begin again, and other dashes and markers keep them apart."""
DASHES = ("", "7 4", "2 3", "9 3 2 3", "5 2 1 2 1 2")
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "point-down")
LINE = 16.0
"""Height of a line of text."""
LETTER = 7.8
"""Width of a letter, on the generous side; a Chinese one takes two."""
LEAST_LETTERS = 12
MOST_MARKERS = 25
"""On one line; where there are more points, some have none."""
SMALL = 0.01
"""Shares and areas, and differences of them, are seen against all that they could be, unless they are as small."""
Element = ElementTree.Element
Point = tuple[float, float]


class _Axis:
    """Numbers, as places between two ends."""

    def __init__(self, values: Iterable[float], start: float, end: float, is_measured: bool = True) -> None:
        low, high = min(values := list(values)), max(values)
        if is_measured and -1 <= low and high <= 1 and max(-low, high) > SMALL:
            low, high = (min(low, 0.0), 1.0) if high > 0 else (-1.0, 0.0)
        if low == high:
            low, high = low - 1, high + 1
        whole = all(float(value).is_integer() for value in values) and high - low > 1
        ticks = MaxNLocator(5, steps=[1, 2, 5, 10], integer=whole).tick_values(low, high)
        self.ticks = [float(tick) for tick in ticks if low <= tick <= high]
        self.low, self.high, self.start, self.end = low, high, start, end

    def place(self, value: float) -> float:
        """Where a number stands."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def curve_svg(curve: Curve) -> str | None:
    """A curve with its intervals as bands, axes labelled; none where there is no number to draw.

    Args:
        curve: What is drawn; its title and legend stand outside.
    """
    numbers = [value for each in curve.series.values() for ends in (each.y, each.low or (), each.high or ())
               for value in ends if value is not None]  # fmt: skip
    steps = [x for each in curve.series.values() for x, y in zip(each.x, each.y, strict=True) if y is not None]
    if not steps:
        return None
    label = _wrapped(curve.y_label, WIDTH)
    top, height = LINE * len(label) + 12, 200.0
    up = _Axis(numbers, top + height, top)
    left = 14 + LETTER * max(len(number_text(tick)) for tick in up.ticks)
    across = _Axis(steps, left, WIDTH - 14, is_measured=False)
    below = _wrapped(curve.x_label, WIDTH - left)
    svg = _picture(f"{curve.title}: {curve.y_label} over {curve.x_label}", top + height + 30 + LINE * len(below))
    for number, line in enumerate(label):
        _text(svg, 0, 12 + LINE * number, line, "axis-label up")
    for tick in up.ticks:
        y = up.place(tick)
        _line(svg, (left, y), (WIDTH - 14, y), "axis" if tick == 0 else "grid")
        _text(svg, left - 6, y + 4, number_text(tick), "tick", "end")
    _ticks_below(svg, across, top + height)
    for number, line in enumerate(below):
        _text(svg, (left + WIDTH - 14) / 2, top + height + 38 + LINE * number, line, "axis-label across", "middle")
    for number, series in enumerate(curve.series.values()):
        _draw_series(svg, series, number, across, up)
    return ElementTree.tostring(svg, encoding="unicode")


def bars_svg(chart: BarChart) -> str | None:
    """A bar from 0 to each number, its interval across, label and number above; none where there is no number.

    Args:
        chart: What is drawn; its title stands outside.
    """
    ends = [(value.value, value.low, value.high) for _, value in chart.rows]
    numbers = [number for each in ends for number in each if math.isfinite(number)]
    if not any(math.isfinite(value) for value, _, _ in ends):
        return None
    across = _Axis([0.0, *numbers], 14, WIDTH - 14)
    rows: list[tuple[list[str], str, Interval]] = []
    for label, value in chart.rows:
        said = interval_text(value)
        rows.append((_wrapped(label, WIDTH - 28 - LETTER * len(said)), said, value))
    height = sum(LINE * len(lines) + 24 for lines, _, _ in rows)
    below = _wrapped(chart.x_label, WIDTH)
    svg = _picture(f"{chart.title}: {chart.x_label}", height + 36 + LINE * len(below))
    _ticks_below(svg, across, height, reach=height)
    y = 0.0
    for lines, said, value in rows:
        for line in lines:
            y += LINE
            _text(svg, 14, y - 3, line, "label")
        _text(svg, WIDTH - 14, y - 3, said, "number", "end")
        _draw_bar(svg, across, value, y + 9)
        y += 24
    for number, line in enumerate(below):
        _text(svg, WIDTH / 2, height + 38 + LINE * number, line, "axis-label across", "middle")
    return ElementTree.tostring(svg, encoding="unicode")


def legend_svg(number: int) -> str:
    """A piece of the line of the series of this number, with its marker."""
    svg = Element("svg", {"viewBox": "0 0 36 14", "class": "swatch", "aria-hidden": "true"})
    ElementTree.SubElement(svg, "path", {"d": "M1 7H35", **_stroke(number)})
    _marker(svg, (18, 7), number)
    return ElementTree.tostring(svg, encoding="unicode")


def _draw_series(svg: Element, series: Series, number: int, across: _Axis, up: _Axis) -> None:
    colour = f"series-{number % COLOURS}"
    places = [across.place(x) for x in series.x]
    for run in _runs(zip(places, series.low or (), series.high or (), strict=False)):
        lows = [(x, up.place(low)) for x, low, _ in run]
        highs = [(x, up.place(high)) for x, _, high in run]
        if len(run) == 1:
            _line(svg, lows[0], highs[0], f"whisker {colour}")
        else:
            _shape(svg, [*lows, *reversed(highs)], f"band {colour}")
    for points in _runs(zip(places, series.y, strict=True)):
        path = "M" + "L".join(f"{x:.1f} {up.place(y):.1f}" for x, y in points)
        ElementTree.SubElement(svg, "path", {"d": path, **_stroke(number)})
        for x, y in points[:: -(-len(points) // MOST_MARKERS)]:
            _marker(svg, (x, up.place(y)), number)


def _draw_bar(svg: Element, across: _Axis, value: Interval, y: float) -> None:
    if not math.isfinite(value.value):
        return
    zero, end = across.place(0.0), across.place(value.value)
    bar = {"x": min(zero, end), "y": y - 5, "width": abs(end - zero), "height": 10}
    ElementTree.SubElement(svg, "rect", {"class": "bar series-0", **{name: f"{n:.1f}" for name, n in bar.items()}})
    if math.isfinite(value.low) and math.isfinite(value.high):
        low, high = across.place(value.low), across.place(value.high)
        for start, stop in (((low, y), (high, y)), ((low, y - 4), (low, y + 4)), ((high, y - 4), (high, y + 4))):
            _line(svg, start, stop, "whisker")
    _marker(svg, (end, y), 0)


def _runs(points: Iterable[tuple[float | None, ...]]) -> list[list[tuple[float, ...]]]:
    """Neighbours without a gap."""
    return [
        [tuple(value for value in point if value is not None) for point in run]
        for is_whole, run in groupby(points, key=lambda point: None not in point)
        if is_whole
    ]


def _wrapped(text: str, width: float) -> list[str]:
    """A text in lines, at least one; words that are too long are broken."""
    letters = max(int(width / LETTER), LEAST_LETTERS)
    lines = Text(" ".join(text.split())).wrap(Console(width=letters), letters, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]


def _picture(name: str, height: float) -> Element:
    svg = Element("svg", {"viewBox": f"0 0 {WIDTH:g} {height:g}", "class": "plot", "role": "img"})
    ElementTree.SubElement(svg, "title").text = name
    return svg


def _ticks_below(svg: Element, across: _Axis, y: float, reach: float = 5.0) -> None:
    """An axis whose ticks go up as far as `reach`; short ones go down."""
    _line(svg, (across.start, y), (across.end, y), "axis")
    for tick in across.ticks:
        x = across.place(tick)
        if reach == 5.0:
            _line(svg, (x, y), (x, y + reach), "axis")
        else:
            _line(svg, (x, y), (x, y - reach), "axis" if tick == 0 else "grid")
        half = LETTER * len(number_text(tick)) / 2
        _text(svg, min(max(x, half), WIDTH - half), y + 18, number_text(tick), "tick", "middle")


def _stroke(number: int) -> dict[str, str]:
    dashes = DASHES[number % len(DASHES)]
    return {"class": f"line series-{number % COLOURS}"} | ({"stroke-dasharray": dashes} if dashes else {})


def _marker(svg: Element, place: Point, number: int) -> None:
    x, y = place
    colour, kind = f"marker series-{number % COLOURS}", MARKERS[number % len(MARKERS)]
    if kind == "circle":
        ElementTree.SubElement(svg, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4", "class": colour})
        return
    corners: dict[str, Sequence[Point]] = {
        "square": [(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)],
        "triangle": [(0, -4.8), (4.6, 3.6), (-4.6, 3.6)],
        "diamond": [(0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)],
        "cross": [(-4.5, -4.5), (0, -1.5), (4.5, -4.5), (1.5, 0), (4.5, 4.5), (0, 1.5), (-4.5, 4.5), (-1.5, 0)],
        "point-down": [(0, 4.8), (4.6, -3.6), (-4.6, -3.6)],
    }
    _shape(svg, [(x + right, y + down) for right, down in corners[kind]], colour)


def _shape(svg: Element, corners: Iterable[Point], style: str) -> None:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    ElementTree.SubElement(svg, "polygon", {"points": points, "class": style})


def _line(svg: Element, start: Point, end: Point, style: str) -> None:
    places = dict(zip(("x1", "y1", "x2", "y2"), (f"{place:.1f}" for place in (*start, *end)), strict=True))
    ElementTree.SubElement(svg, "line", {**places, "class": style})


def _text(svg: Element, x: float, y: float, text: str, style: str, anchor: str = "start") -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": style}
    ElementTree.SubElement(svg, "text", place).text = text
