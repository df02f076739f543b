"""An audit as Markdown: what a renderer makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest
from markdown_it import MarkdownIt

from soul_lightning.reports.audit import AuditReport
from soul_lightning.reports.audit_contents import verdict_lines
from soul_lightning.reports.audit_markdown import audit_markdown
from tests.reports.sample_audit import sample_audit
from tests.reports.test_audit_html import hostile_audit

HOSTILE = (
    "<script>alert(1)</script>", "<img src=x>", "[a](http://example.com)", "![a](x)", "a|b", "`code`", "*b* _c_",
    "&lt;",    "~~d~~", "a\n\n# b", "<http://example.com>", "\\", "a\\|b", "[a][b]", "www.example.com",
)  # fmt: skip


def rendered(report: AuditReport) -> str:
    html: str = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(audit_markdown(report))
    return html


def test_a_line_a_verdict_and_a_heading_a_part() -> None:
    report = sample_audit()
    html = rendered(report)
    items = [unescape(re.sub("<[^>]*>", "", item)) for item in re.findall("<li>(.*?)</li>", html, re.DOTALL)]
    signs = ["✗", "?", "✓", "✓", "–"]
    lines = verdict_lines(report)
    assert items == [f"{sign} {line.asked} {line.sentence}" for sign, line in zip(signs, lines, strict=True)]
    headings = [unescape(heading) for heading in re.findall("<h2>(.*?)</h2>", html)]
    assert headings[1:] == [f"{part.name} ({part.kind})" for part in report.parts]
    assert "2 of 9 parts did not run" in html
    assert "Not run: the 30 minutes of the budget were used up." in html
    assert "no word of their answer &lt;is&gt; known." in html


def test_curves_and_bars_are_tables() -> None:
    text = audit_markdown(sample_audit())
    assert "| relearning steps | 8 forgotten rows | related text | unrelated text | never saw it, 8 rows |" in text
    assert "| 40 | 0.851 | 0.546 | – | 0.414 |" in text
    assert "| role play | 0.33 [0.24, 0.46] |" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_is_read_as_markup(text: str) -> None:
    plain = rendered(hostile_audit("x"))
    html = rendered(hostile_audit(text))
    assert re.findall("<[^>]*>", html) == re.findall("<[^>]*>", plain)
    shown = unescape(re.sub("<[^>]*>", "", html))
    assert " ".join(text.split()) in shown


def test_an_audit_without_parts_is_five_open_questions() -> None:
    text = audit_markdown(replace(sample_audit(), parts=[]))
    assert text.count("not answered: no part measured it") == 5
