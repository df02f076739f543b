"""An audit as Markdown: the verdicts, a table a part, and no link to anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence

from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.audit_contents import (
    FINDING_COLUMNS,
    HOW_TO_READ,
    METRIC_COLUMNS,
    SIGNS,
    finding_rows,
    interval_text,
    metric_rows,
    number_text,
    setting_rows,
    verdict_lines,
    warnings,
)
from soul_lightning.reports.charts import BarChart, Curve

_MARKS = re.compile(r"[\\`*<&|~$]|\](?=[(\[])|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.")
"""What Markdown would read as its own inside of a line: among it what makes a link, or of an address one."""


def audit_markdown(report: AuditReport) -> str:
    """The whole audit. Texts from outside stand for themselves, whatever signs they hold.

    Args:
        report: The audit.
    """
    lines = [f"# Audit of {_plain(report.model)}", ""]
    lines += [f"- {SIGNS[line.mark]} **{line.asked}** {_plain(line.sentence)}" for line in verdict_lines(report)]
    for warning in warnings(report):
        lines += ["", f"**{_plain(warning)}**"]
    lines += ["", HOW_TO_READ, "", "## What was audited, and how", ""]
    lines += _table(("", ""), setting_rows(report))
    for part in report.parts:
        lines += ["", f"## {_plain(part.name)} ({_plain(part.kind)})", ""]
        lines += [f"Not run: {_plain(part.not_run)}."] if part.not_run is not None else _part(part)
    return "\n".join(lines) + "\n"


def _part(part: AuditPart) -> list[str]:
    lines = [f"{part.seconds:.0f} seconds."]
    for note in part.notes:
        lines += ["", _plain(note)]
    if part.findings:
        lines += ["", *_table(FINDING_COLUMNS, finding_rows(part.findings))]
    if part.metrics:
        lines += ["", *_table(METRIC_COLUMNS, metric_rows(part.metrics))]
    for curve in part.curves:
        lines += ["", f"{_plain(curve.title)}: {_plain(curve.y_label)}", "", *_curve(curve)]
    for chart in part.bars:
        lines += ["", _plain(chart.title), "", *_bars(chart)]
    return lines


def _curve(curve: Curve) -> list[str]:
    """A row an x, a column a series."""
    steps = sorted({x for series in curve.series.values() for x in series.x})
    found = [dict(zip(series.x, series.y, strict=True)) for series in curve.series.values()]
    rows = [[number_text(x), *(number_text(values.get(x)) for values in found)] for x in steps]
    return _table((curve.x_label, *curve.series), rows)


def _bars(chart: BarChart) -> list[str]:
    return _table(("", f"{chart.x_label} [interval]"), [(label, interval_text(value)) for label, value in chart.rows])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [columns, ["---"] * len(columns), *rows]
    return [
        "| " + " | ".join(cell if number == 1 else _plain(cell) for cell in row) + " |"
        for number, row in enumerate(cells)
    ]


def _plain(text: str) -> str:
    """A text in one line, without anything that Markdown would take for its own."""
    return _MARKS.sub(lambda found: "\\" + found[0], " ".join(text.split()))
