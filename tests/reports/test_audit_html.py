"""The page of an audit: whole, well-formed, escaped, and closed to everything outside."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.audit_contents import verdict_lines
from soul_lightning.reports.audit_html import audit_html
from soul_lightning.reports.charts import BarChart, Curve, Series
from soul_lightning.reports.findings import Finding
from tests.reports.sample_audit import HOSTILE, sample_audit

VOID = {"meta", "br"}
FETCHING = {
    "script",
    "link",
    "img",
    "iframe",
    "object",
    "embed",
    "video",
    "audio",
    "source",
    "base",
    "form",
    "image",
    "use",
}


class Reader(HTMLParser):
    """Elements with their attributes, the text of a page, and whether every element ends where it should."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(report: AuditReport) -> Reader:
    return Reader(audit_html(report))


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_verdict_stands_on_the_page_with_its_number() -> None:
    page = words(read(sample_audit()).text)
    for line in verdict_lines(sample_audit()):
        assert line.asked in page and line.words in page and line.number in page and line.details in page


def test_parts_metrics_settings_and_reasons_stand_on_it() -> None:
    report = sample_audit()
    page = words(read(report).text)
    for part in report.parts:
        assert part.name in page and part.kind in page and (part.not_run or "") in page
        borders = {f"{name}_{end}" for name in part.metrics for end in ("low", "high")}
        assert all(name in page for name in part.metrics if name not in borders)
        assert all(note in page for note in part.notes)
        assert all(label in page for chart in part.bars for label, _ in chart.rows)
        assert all(name in page for curve in part.curves for name in curve.series)
    for text in (report.model, report.hash_before, report.config, report.config_hash, str(report.reference), "3407"):
        assert text in page


def test_it_fetches_nothing_and_its_policy_allows_its_own_style_alone() -> None:
    page = read(sample_audit())
    assert not FETCHING & {tag for tag, _ in page.elements}
    policy = next(each["content"] for each in page.attributes("meta") if each.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in page.style and "@import" not in page.style
    names = {name for _, attributes in page.elements for name in attributes}
    assert not {"style", "src", "srcset", "data", "action", "xlink:href"} & names
    assert not [name for name in names if name.startswith("on")]


def test_links_lead_to_places_on_the_page() -> None:
    page = read(sample_audit())
    places = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(places) == len(set(places))
    links = [attributes["href"] or "" for _, attributes in page.elements if "href" in attributes]
    assert len(links) == 5 and all(link.startswith("#") and link[1:] in places for link in links)


def test_it_says_its_language_what_it_is_and_what_heads_what() -> None:
    page = read(sample_audit())
    assert page.attributes("html") == [{"lang": "en"}]
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1 and tags.count("title") > 1 and tags.count("main") == 1
    assert all(each.get("scope") in ("col", "row") for each in page.attributes("th"))
    headings = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert tags.count("figure") == tags.count("figcaption") > 5
    marks = [each for each in page.attributes("svg") if "mark" in str(each["class"])]
    assert len(marks) == 10 and all(each["aria-label"] for each in marks)


def test_a_changed_model_is_said_before_the_verdicts() -> None:
    page = words(read(replace(sample_audit(), hash_after="0")).text)
    assert page.index("Do not use them") < page.index("Does it still remember?")
    assert "Do not use them" not in words(read(sample_audit()).text)


def test_an_audit_without_parts_has_a_page() -> None:
    page = words(read(replace(sample_audit(), parts=[], reference=None, original=None)).text)
    assert page.count("not answered: no part measured it") == 10


def hostile_audit(text: str) -> AuditReport:
    """The same text wherever a text may stand."""
    part = AuditPart(
        text,
        text,
        {text: 0.5},
        [Finding("remembers", text, text, Interval(0.5, 0.4, 0.6), 0.95, 3, 2, "yes")],
        curves=[Curve(text, text, text, {text: Series([0, 1], [1, 2])})],
        bars=[BarChart(text, text, [(text, Interval(0.5, 0.4, 0.6))])],
    )
    stopped = AuditPart(f"{text}2", text, not_run=text)
    return replace(
        sample_audit(), model=text, reference=text, original=text, config=text, config_hash=text, versions={text: text},
        hash_before=text, hash_after=text, parts=[part, stopped],
    )  # fmt: skip


def test_no_text_is_read_as_anything_else() -> None:
    def kinds(page: Reader) -> set[tuple[str, ...]]:
        return {(tag, *sorted(attributes)) for tag, attributes in page.elements}

    page = read(hostile_audit(HOSTILE))
    assert kinds(page) == kinds(read(hostile_audit("harmless/text")))
    assert "<script>document.title='run'</script>" in page.text


@settings(max_examples=25)
@given(st.text(st.sampled_from("<>\"'&/= -!\n\t\0]{}%#𝕏漢é‮a"), min_size=1, max_size=12))
def test_any_text_leaves_the_page_whole(text: str) -> None:
    page = read(hostile_audit(text))
    assert not FETCHING & {tag for tag, _ in page.elements}
    assert page.text.count("Does it still remember?") == 2
