"""Claims and the numbers that they rest on: a table in the terminal, Markdown, flat records, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import groupby

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.claims import LEAST_DIFFERENCE, Verdict
from soul_lightning.reports.figures import BLUE
from soul_lightning.reports.tables import Record, signed

RULE = (
    f"confirmed: all of the interval lies above 0; not confirmed: all of it lies below {LEAST_DIFFERENCE:g}; unclear: "
    f"it holds both. A row without a difference is no test, and has no verdict"
)
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One number that a claim rests on.

    Attributes:
        claim: What is said.
        evidence: The models that are compared.
        number: What the interval is of: `restoration`, or `rank correlation`.
        interval: Above 0 where the claim is right; none where it cannot be told.
        verdict: What it says to the claim; none where nothing is compared.
        false_share: The same of false answers.
        accuracy_control: The same of true answers about control people.
        note: What else there is to know.
    """

    claim: str
    evidence: str
    number: str
    interval: Interval | None
    verdict: Verdict | None
    false_share: Interval | None = None
    accuracy_control: Interval | None = None
    note: str = ""

    def written(self, interval: Interval | None) -> str:
        """One of its intervals, signed where it is a difference."""
        if interval is None:
            return "–"
        return signed(interval) if self.verdict is not None else str(interval)


def claims_table(rows: Sequence[ClaimRow]) -> Table:
    """Each claim above the numbers that it rests on; 80 columns wide."""
    table = Table(
        title="Claims", caption=f"{RULE}.", title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD,
        padding=(0, 1), width=79,
    )  # fmt: skip
    table.add_column("restoration, or rank correlation with confidence", overflow="fold", ratio=1)
    table.add_column("95 % interval", no_wrap=True, justify="right")
    table.add_column("verdict", no_wrap=True)
    for claim, own in groupby(rows, lambda row: row.claim):
        table.add_section()
        table.add_row(Text(claim, style="bold"))
        for row in own:
            note = f" ({row.note})" if row.note else ""
            table.add_row(Text(f"  {row.evidence}{note}"), row.written(row.interval), row.verdict or "")
    return table


def claims_markdown(rows: Sequence[ClaimRow], title: str) -> str:
    """Every number as a Markdown table, with what verdicts mean below it."""
    lines = [f"# {title}", ""]
    lines.append("| claim | rests on | number | difference | verdict | false answers | control |")
    lines.append("| --- | --- | --- | ---: | --- | ---: | ---: |")
    for row in rows:
        others = (row.written(each) for each in (row.false_share, row.accuracy_control))
        note = f" ({row.note})" if row.note else ""
        cells = (row.claim, f"{row.evidence}{note}", row.number, row.written(row.interval), row.verdict or "", *others)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", f"{RULE}."]) + "\n"


def claims_records(rows: Sequence[ClaimRow]) -> list[Record]:
    """One flat record a number; none where there is no interval."""
    records = []
    for row in rows:
        record: Record = {"claim": row.claim, "evidence": row.evidence, "number": row.number, "verdict": row.verdict}
        columns = {"value": row.interval, "false_share": row.false_share, "accuracy_control": row.accuracy_control}
        for name, interval in columns.items():
            ends = astuple(interval) if interval is not None else (None,) * len(_ENDS)
            record |= {f"{name}{end}": value for end, value in zip(_ENDS, ends, strict=True)}
        records.append(record | {"note": row.note})
    return records


def claims_figure(rows: Sequence[ClaimRow]) -> Figure:
    """Every tested number with its interval, below the claim that it belongs to; right of 0 speaks for the claim."""
    tested = [row for row in rows if row.verdict is not None and row.interval is not None]
    labels: list[str] = []
    figure = Figure(figsize=(9, 1.2 + 0.34 * (len(tested) + len({row.claim for row in tested}))), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    headings = []
    for claim, own in groupby(tested, lambda row: row.claim):
        headings.append(len(labels))
        labels.append(claim)
        for row in own:
            assert row.interval is not None
            middle = row.interval.value
            ends = [[max(0.0, middle - row.interval.low)], [max(0.0, row.interval.high - middle)]]
            axis.errorbar([middle], [len(labels)], xerr=ends, fmt="o", color=BLUE, capsize=3)
            labels.append(row.evidence)
    axis.axvline(0, color="0.4", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(labels)), labels)
    for place in headings:
        axis.get_yticklabels()[place].set_fontweight("bold")
    axis.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    figure.supxlabel("difference of restorations, or rank correlation; right of 0 is for the claim", fontsize="medium")
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure
