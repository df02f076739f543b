"""The verdicts of an audit in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_contents import SIGNS, Mark, VerdictLine, verdict_lines, warnings

STYLES: dict[Mark, str] = {"hoped": "green", "feared": "bold red", "unclear": "yellow", "unanswered": "dim"}


def audit_summary(report: AuditReport) -> RenderableType:
    """Question and answer of each verdict, its number beneath, and what must be known before it is believed.

    Args:
        report: The audit.

    Returns:
        What fits any terminal from 60 columns on.
    """
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for line in verdict_lines(report):
        grid.add_row(Text(SIGNS[line.mark], style=STYLES[line.mark]), _lines(line))
    notes = [
        Padding(Text(f"! {warning}", style="yellow", overflow="fold"), (1, 0, 0, 0)) for warning in warnings(report)
    ]
    return Group(Text(f"Audit of {report.model}", style="bold", overflow="fold"), Text(), grid, *notes)


def _lines(line: VerdictLine) -> Text:
    # Text, not markup: names may hold brackets.
    text = Text(f"{line.asked}  ", style="bold", overflow="fold")
    text.append(line.words, style=f"not bold {STYLES[line.mark]}")
    if line.finding is not None:
        text.append(f" — {line.number}", style="bold")
        text.append(f"\n{line.finding.measure}", style="not bold")
        text.append(f"\n{line.details}", style="not bold dim")
    return text
