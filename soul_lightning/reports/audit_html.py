"""An audit as one page that asks nothing of any network, can be printed, and follows the reader's light or dark."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import PurePath

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.audit_contents import (
    FINDING_COLUMNS,
    HOW_TO_READ,
    MEANINGS,
    METRIC_COLUMNS,
    VerdictLine,
    finding_rows,
    metric_rows,
    number_text,
    question_parts,
    setting_rows,
    verdict_lines,
    warnings,
)
from soul_lightning.reports.charts import BarChart, Curve
from soul_lightning.reports.findings import Finding
from soul_lightning.reports.svg_charts import bars_svg, curve_svg, legend_svg

FINDINGS_AXIS = "value of each measure"


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A figure, and its numbers as a table.

    Attributes:
        title: Above it.
        source: The part it is of.
        svg: The picture; none where there is no number.
        columns: Of the table.
        rows: Of the table, whose first column alone holds names.
        legend: Swatch and name of every series; empty where one picture shows one.
    """

    title: str
    source: str
    svg: Markup | None
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    legend: list[tuple[Markup, str]]


@dataclass(frozen=True, slots=True)
class _Section:
    """What stands under a question."""

    line: VerdictLine
    rows: list[tuple[str, ...]]
    figures: list[_Drawn]


def audit_html(report: AuditReport) -> str:
    """The page. Every text from outside is escaped, and nothing in it could fetch or run anything.

    Args:
        report: The audit.
    """
    style = files("soul_lightning.reports").joinpath("audit.css").read_text(encoding="utf-8")
    under, others = question_parts(report)
    sections = []
    for line in verdict_lines(report):
        own = [finding for finding in report.findings if finding.question == line.question]
        figures = [drawn for part in under[line.question] for drawn in _drawn(part)]
        sections.append(_Section(line, finding_rows(own), [*_drawn_findings(own), *figures]))
    ran = [part for part in report.parts if part.not_run is None]
    return _template().render(
        report=report,
        model=_last(report.model),
        reference=_last(report.reference or "none"),
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        meanings=MEANINGS,
        finding_columns=FINDING_COLUMNS,
        metric_columns=METRIC_COLUMNS,
        how_to_read=HOW_TO_READ,
        date=f"{datetime.fromisoformat(report.date):%Y-%m-%d %H:%M %Z}",
        ran=f"{len(ran)} of {len(report.parts)} parts ran, {report.minutes_used:.0f} min",
        warnings=warnings(report),
        lines=[section.line for section in sections],
        sections=sections,
        others=[drawn for part in others for drawn in _drawn(part)],
        not_run=[(part.name, part.kind, part.not_run) for part in report.not_run],
        settings=setting_rows(report),
        metrics=[(part, metric_rows(part.metrics)) for part in ran],
    )


def _last(name: str) -> str:
    """The last part of a folder or of a name with its owner."""
    return PurePath(name).name or name


@cache
def _template() -> Template:
    source = files("soul_lightning.reports").joinpath("audit.html.jinja").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(source)


def _drawn(part: AuditPart) -> list[_Drawn]:
    curves = [_drawn_curve(curve, part.name) for curve in part.curves]
    return [*curves, *(_drawn_bars(chart, part.name) for chart in part.bars)]


def _drawn_findings(findings: list[Finding]) -> list[_Drawn]:
    """Every finding with its interval; its numbers stand in a table of their own."""
    rows = [(f"{finding.source}: {finding.measure}", finding.value) for finding in findings]
    chart = BarChart("Every finding, with its interval", FINDINGS_AXIS, rows)
    return [replace(_drawn_bars(chart, ""), rows=[])] if rows else []


def _drawn_curve(curve: Curve, source: str) -> _Drawn:
    rows = [
        (name, *map(number_text, point))
        for name, series in curve.series.items()
        for point in zip(
            series.x, series.y, series.low or [None] * len(series.x), series.high or [None] * len(series.x), strict=True
        )
    ]
    return _Drawn(
        curve.title,
        source,
        _markup(curve_svg(curve)),
        ("series", curve.x_label, curve.y_label, "low", "high"),
        rows,
        [(Markup(legend_svg(number)), name) for number, name in enumerate(curve.series)],
    )


def _drawn_bars(chart: BarChart, source: str) -> _Drawn:
    rows = [(label, *map(number_text, (value.value, value.low, value.high))) for label, value in chart.rows]
    return _Drawn(chart.title, source, _markup(bars_svg(chart)), ("", chart.x_label, "low", "high"), rows, [])


def _markup(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)
