"""Verdicts in words: the answer that one fears wins, what is shown says it most strongly, and no more than was seen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.audit_contents import (
    NO_SIGN,
    UNANSWERED,
    UNCLEAR,
    VerdictLine,
    interval_text,
    metric_rows,
    number_text,
    question_parts,
    verdict_lines,
    warnings,
)
from soul_lightning.reports.findings import QUESTIONS, Finding, Question, Verdict
from tests.reports.sample_audit import finding, sample_audit


def audit(*findings: Finding) -> AuditReport:
    return replace(sample_audit(), parts=[AuditPart("only", "Part", findings=findings)])


def line(question: Question, *findings: Finding) -> VerdictLine:
    (found,) = [each for each in verdict_lines(audit(*findings)) if each.question == question]
    return found


def test_every_question_has_a_line_in_its_order() -> None:
    assert [each.question for each in verdict_lines(sample_audit())] == list(QUESTIONS)
    assert all(each.words == UNANSWERED and each.mark == "unanswered" for each in verdict_lines(audit()))


def test_a_line_says_number_interval_confidence_examples_and_subjects() -> None:
    said = line("remembers", finding("remembers", "role-play", "of questions answered", (0.42, 0.31, 0.55), "yes"))
    assert said.sentence == (
        "yes — 0.42 [0.31, 0.55] of questions answered (95 % interval, 48 examples about 12 subjects; role-play)"
    )
    single = finding("fluent", "p", "of answers", (1, 0.9, 1), "yes", rows=1)
    assert "1 example about 1 subject; p" in line("fluent", replace(single, confidence=0.975)).details
    assert line("fluent", replace(single, confidence=0.975)).details.startswith("97.5 % interval")


def test_the_feared_finding_is_shown_however_many_hope() -> None:
    found = [
        finding("remembers", "weak", "m", (0.2, 0.1, 0.3), "yes"),
        finding("remembers", "none", "m", (0.0, -0.9, 0.05), "no"),
        finding("remembers", "strong", "m", (0.6, 0.5, 0.7), "yes"),
        finding("remembers", "wide", "m", (0.3, -0.9, 0.95), "unclear"),
    ]
    said = line("remembers", *found)
    assert said.finding == found[2]
    assert (said.verdict, said.mark, said.words) == ("yes", "feared", "yes")
    assert said.details.endswith("strong; 2 of 4 findings say so")


def test_a_model_may_give_itself_away_to_the_other_side() -> None:
    found = [
        finding("leaks_membership", "up", "m", (0.2, 0.1, 0.3), "yes"),
        finding("leaks_membership", "down", "m", (-0.4, -0.5, -0.3), "yes"),
    ]
    assert line("leaks_membership", *found).finding == found[1]


def test_of_what_is_hoped_for_the_nearest_to_fear_is_shown() -> None:
    found = [
        finding("recovers", "near", "m", (0.02, -0.05, 0.09), "no"),
        finding("recovers", "far", "m", (0.0, -0.01, 0.01), "no"),
    ]
    said = line("recovers", *found)
    assert (said.finding, said.words, said.mark) == (found[0], NO_SIGN, "hoped")
    useful = [
        finding("useful", "high", "m", (0.9, 0.8, 1.0), "yes"),
        finding("useful", "low", "m", (0.7, 0.6, 0.8), "yes"),
    ]
    assert line("useful", *useful).finding == useful[1]
    useful.append(finding("useful", "lost", "m", (0.1, 0.0, 0.2), "no"))
    lost = line("useful", *useful)
    assert (lost.finding, lost.words, lost.mark) == (useful[2], "no", "feared")


def test_one_unclear_finding_leaves_the_question_open() -> None:
    found = [
        finding("recovers", "none", "m", (0.0, -0.01, 0.01), "no"),
        finding("recovers", "wide", "m", (0.1, -0.2, 0.4), "unclear"),
    ]
    said = line("recovers", *found)
    assert (said.finding, said.words, said.mark) == (found[1], UNCLEAR, "unclear")


@pytest.mark.parametrize("verdict", ["yes", "no", "unclear"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_no_verdict_claims_that_something_is_gone(question: Question, verdict: Verdict) -> None:
    said = line(question, finding(question, "p", "m", (math.nan, math.nan, math.nan), verdict)).words
    expected = {"yes": "yes", "unclear": UNCLEAR, "no": "no" if question in ("useful", "fluent") else NO_SIGN}
    assert said == expected[verdict]


def test_parts_stand_under_the_question_that_they_answer_first() -> None:
    under, others = question_parts(sample_audit())
    names = {question: [part.name for part in parts] for question, parts in under.items()}
    assert names == {
        "remembers": ["prompts", "linear-probe"],
        "recovers": ["relearning", "quantization"],
        "leaks_membership": ["membership"],
        "useful": ["utility"],
        "fluent": [],
    }
    assert [part.name for part in others] == ["logits"]


def test_warnings_name_what_did_not_run_and_a_changed_model() -> None:
    (missing,) = warnings(sample_audit())
    assert missing.startswith("2 of 9 parts did not run: relearning-unrelated, forget-quality.")
    changed, _ = warnings(replace(sample_audit(), hash_after="0"))
    assert "not the same" in changed
    assert warnings(audit()) == []


def test_borders_stand_beside_their_metric() -> None:
    rows = metric_rows({"auc": 0.5, "auc_low": -0.25, "auc_high": 0.75, "so_low": 3.0, "none": None})
    assert rows == [("auc", "0.5", "−0.25 to 0.75"), ("so_low", "3", ""), ("none", "–", "")]


def test_numbers_keep_the_digits_that_count() -> None:
    assert interval_text(Interval(-0.421, -0.5, 0.1)) == "−0.42 [−0.50, 0.10]"
    assert interval_text(Interval(0.0012, 0.0004, 0.0021)) == "0.0012 [4.0e−04, 0.0021]"
    assert interval_text(Interval(123456.7, 1.0, 1e9)) == "1.2e+05 [1, 1.0e+09]"
    assert interval_text(Interval(0.5, math.nan, math.nan)) == "0.50 [–, –]"
    assert interval_text(Interval(math.nan, 0, 1)) == "–"
    assert number_text(math.inf) == "–"
