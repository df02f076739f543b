"""Claims as a table in 80 columns, as Markdown, as records, as a figure."""

from __future__ import annotations

from rich.console import Console

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.claims import ClaimRow, claims_figure, claims_markdown, claims_records, claims_table

LONG = "a claim | whose sentence takes more than one line of a terminal that is eighty columns wide, and goes on"
ROWS = [
    ClaimRow(LONG, "npo minus graddiff", "restoration", Interval(0.1, 0.02, 0.2), "confirmed", Interval(-0.1, -0.2, 0)),
    ClaimRow(LONG, "npo", "restoration", Interval(0.5, 0.4, 0.6), None, Interval(0.2, 0.1, 0.3)),
    ClaimRow("another", "[confidence], npo", "rank correlation", None, "unclear", note="of 3 lost facts none"),
]


def test_the_table_fits_eighty_columns_and_hides_nothing() -> None:
    console = Console(width=80, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(claims_table(ROWS))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    together = " ".join(text.split())
    for said in ("+0.10 [+0.02, +0.20] confirmed", "npo 0.50 [0.40, 0.60]", "[confidence], npo", "–", "goes on"):
        assert said in together
    assert "confirmed: all of the interval lies above 0" in together


def test_markdown_has_a_line_a_number() -> None:
    lines = claims_markdown(ROWS, "title").splitlines()
    assert lines[0] == "# title"
    assert lines[4].endswith(
        "| npo minus graddiff | restoration | +0.10 [+0.02, +0.20] | confirmed | -0.10 [-0.20, +0.00] | – |"
    )
    assert lines[4].startswith("| a claim \\| whose")
    assert "| npo | restoration | 0.50 [0.40, 0.60] |  | 0.20 [0.10, 0.30] | – |" in lines[5]
    assert "(of 3 lost facts none) | rank correlation | – | unclear |" in lines[6]


def test_records_have_the_same_keys() -> None:
    records = claims_records(ROWS)
    assert len({tuple(record) for record in records}) == 1
    assert records[0] | {"claim": ""} == {
        "claim": "", "evidence": "npo minus graddiff", "number": "restoration", "verdict": "confirmed",
        "value": 0.1, "value_low": 0.02, "value_high": 0.2,
        "false_share": -0.1, "false_share_low": -0.2, "false_share_high": 0,
        "accuracy_control": None, "accuracy_control_low": None, "accuracy_control_high": None, "note": "",
    }  # fmt: skip
    assert records[2]["value"] is None


def test_the_figure_shows_what_is_tested_below_its_claim() -> None:
    (axis,) = claims_figure(ROWS).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [LONG, "npo minus graddiff"]
    assert claims_figure(ROWS[1:]).axes[0].get_yticklabels() == []
