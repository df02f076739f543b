"""The verdicts of an audit in a terminal of 80 columns, and of 120."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_contents import verdict_lines
from soul_lightning.reports.audit_terminal import audit_summary
from tests.reports.sample_audit import sample_audit
from tests.reports.test_audit_html import hostile_audit


def printed(report: AuditReport, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(audit_summary(report))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_every_verdict_is_whole(width: int) -> None:
    report = sample_audit()
    text = printed(report, width)
    assert max(cell_len(line) for line in text.split("\n")) <= width
    flat = " ".join(text.split())
    for line in verdict_lines(report):
        measure = line.finding.measure if line.finding else ""
        assert all(each in flat for each in (line.asked, line.words, line.number, measure, line.details))
    assert report.model in text.replace("\n", "")
    assert "2 of 9 parts did not run" in flat


def test_each_answer_stands_on_one_line_with_its_sign_and_number() -> None:
    lines = printed(sample_audit(), 80).split("\n")
    assert "✗ Does it still remember?  yes — 0.42 [0.31, 0.55]" in [line.rstrip() for line in lines]
    assert "– Does it still speak?  not answered: no part measured it" in [line.rstrip() for line in lines]


def test_names_are_no_markup() -> None:
    text = printed(hostile_audit("[red]x[/red]"), 80)
    assert text.count("[red]x[/red]") >= 3


def test_a_changed_model_is_said() -> None:
    assert "Do not use them" in " ".join(printed(replace(sample_audit(), hash_after="0"), 80).split())
