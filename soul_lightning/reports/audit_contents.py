"""What every form of an audit's report says: verdicts in words, and the rows of its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.evaluation import HIGH, LOW, readable
from soul_lightning.reports.findings import QUESTIONS, WISHED, Finding, Question, Verdict, verdict_of

Mark = Literal["hoped", "feared", "unclear", "unanswered"]
SIGNS: dict[Mark, str] = {"hoped": "✓", "feared": "✗", "unclear": "?", "unanswered": "–"}
MEANINGS: dict[Mark, str] = {
    "hoped": "what one hopes for",
    "feared": "what one fears",
    "unclear": "undecided",
    "unanswered": "not asked",
}
NO_SIGN = "no sign of it"
"""A `no` to what one fears: an audit can find what is left, and cannot prove that nothing is."""
UNCLEAR = "unclear: the interval holds both"
UNANSWERED = "not answered: no part measured it"
FINDING_COLUMNS = ("source", "says", "value [interval]", "measure", "confidence", "examples", "subjects")
METRIC_COLUMNS = ("metric", "value", "interval")
HOW_TO_READ = (
    "A question gets the answer that one fears if any finding gives it, and the answer that one hopes for only if all "
    "do; the finding that is shown is the one that says it most strongly. «No sign of it» holds for what was tried "
    "here, and for nothing else. Intervals draw all rows about one subject together. What one part finds by several "
    "attacks holds at its confidence together; over several parts that ask the same question, false alarms add up."
)


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """What an audit says to one question.

    Attributes:
        question: The question.
        verdict: What all findings say together; none where there is none.
        finding: The one that says it most strongly.
        agreeing: How many say it.
        findings: How many there are on the question.
    """

    question: Question
    verdict: Verdict | None
    finding: Finding | None
    agreeing: int
    findings: int

    @property
    def asked(self) -> str:
        """The question in words."""
        return QUESTIONS[self.question]

    @property
    def mark(self) -> Mark:
        """Whether the answer is the one that is hoped for."""
        if self.verdict is None:
            return "unanswered"
        if self.verdict == "unclear":
            return "unclear"
        return "hoped" if self.verdict == WISHED[self.question] else "feared"

    @property
    def words(self) -> str:
        """The answer, and no more than was seen."""
        if self.verdict is None:
            return UNANSWERED
        return UNCLEAR if self.verdict == "unclear" else verdict_words(self.question, self.verdict)

    @property
    def number(self) -> str:
        """`0.42 [0.31, 0.55]`; empty where the question was not answered."""
        return interval_text(self.finding.value) if self.finding else ""

    @property
    def details(self) -> str:
        """What stands in brackets: confidence, number of examples and subjects, source, how many findings agree."""
        if self.finding is None:
            return ""
        found = self.finding
        agree = f"; {self.agreeing} of {self.findings} findings say so" if self.findings > 1 else ""
        return (
            f"{100 * found.confidence:g} % interval, {_counted(found.examples, 'example')} about "
            f"{_counted(found.subjects, 'subject')}; {found.source}{agree}"
        )

    @property
    def sentence(self) -> str:
        """All of it behind the question."""
        if self.finding is None:
            return self.words
        return f"{self.words} — {self.number} {self.finding.measure} ({self.details})"


def verdict_lines(report: AuditReport) -> list[VerdictLine]:
    """One a question, in the order in which they are asked."""
    return [_verdict_line(question, report.findings) for question in QUESTIONS]


def verdict_words(question: Question, verdict: Verdict) -> str:
    """One finding's verdict, short."""
    return NO_SIGN if verdict == "no" and WISHED[question] == "no" else verdict


def question_parts(report: AuditReport) -> tuple[dict[Question, list[AuditPart]], list[AuditPart]]:
    """The parts under the question that they answer first, and those that ran and answer none."""
    under: dict[Question, list[AuditPart]] = {question: [] for question in QUESTIONS}
    others = []
    for part in report.parts:
        if part.findings:
            under[part.findings[0].question].append(part)
        elif part.not_run is None:
            others.append(part)
    return under, others


def interval_text(interval: Interval) -> str:
    """`0.42 [0.31, 0.55]`, with a minus that is no hyphen; more digits where two would show nothing, or too many."""
    numbers = [interval.value, interval.low, interval.high]
    if not math.isfinite(interval.value):
        return "–"
    largest = max(abs(number) for number in numbers if math.isfinite(number))
    value, *ends = (
        f"{number:.2f}".replace("-", "−") if 0.05 <= largest < 1000 and math.isfinite(number) else number_text(number)
        for number in numbers
    )
    return f"{value} [{ends[0]}, {ends[1]}]"


def number_text(value: float | None) -> str:
    """A number in few characters, with a minus that is no hyphen; a dash where it has no meaning."""
    return "–" if value is None or not math.isfinite(value) else readable(value).replace("-", "−")


def finding_rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    """The cells of `FINDING_COLUMNS`."""
    return [
        (
            found.source, verdict_words(found.question, found.verdict), interval_text(found.value), found.measure,
            f"{100 * found.confidence:g} %", str(found.examples), str(found.subjects),
        )
        for found in findings
    ]  # fmt: skip


def metric_rows(metrics: Mapping[str, float | None]) -> list[tuple[str, str, str]]:
    """Name, value and interval of every metric; the borders of intervals stand beside what they belong to."""
    borders = {name + end for name in metrics for end in (LOW, HIGH)}
    rows = []
    for name, value in metrics.items():
        if name not in borders:
            low, high = metrics.get(name + LOW), metrics.get(name + HIGH)
            interval = f"{number_text(low)} to {number_text(high)}" if low is not None and high is not None else ""
            rows.append((name, number_text(value), interval))
    return rows


def setting_rows(report: AuditReport) -> list[tuple[str, str]]:
    """What was audited, how and with what."""
    allowed = "no limit" if report.minutes_allowed is None else f"of {report.minutes_allowed:g} allowed"
    return [
        ("model", report.model),
        ("model's files before", report.hash_before),
        ("model's files after", report.hash_after),
        ("reference (never saw what is forgotten)", report.reference or "none"),
        ("original (before unlearning)", report.original or "none"),
        ("configuration", report.config),
        ("configuration's hash", report.config_hash),
        ("seed", str(report.seed)),
        ("date", report.date),
        ("minutes", f"{report.minutes_used:.1f}, {allowed}"),
        *report.versions.items(),
    ]


def warnings(report: AuditReport) -> list[str]:
    """What must be known before a verdict is believed."""
    found = []
    if not report.is_unchanged:
        found.append(
            "The model's files are not the same after the audit as before it: the numbers are of a model that was "
            "changing. Do not use them; audit again."
        )
    if report.not_run:
        names = ", ".join(part.name for part in report.not_run)
        found.append(
            f"{len(report.not_run)} of {_counted(len(report.parts), 'part')} did not run: {names}. No verdict speaks "
            f"for them."
        )
    return found


def _verdict_line(question: Question, findings: list[Finding]) -> VerdictLine:
    own = [finding for finding in findings if finding.question == question]
    if not own:
        return VerdictLine(question, None, None, 0, 0)
    verdict = verdict_of(question, own)
    agreeing = [finding for finding in own if finding.verdict == verdict]
    return VerdictLine(question, verdict, max(agreeing, key=_fear), len(agreeing), len(own))


def _fear(finding: Finding) -> float:
    """How near a finding's interval comes to what one fears, or how far it goes there."""
    interval = finding.value
    if WISHED[finding.question] == "yes":
        near = -interval.low if finding.verdict != "no" else -interval.value
    else:  # a model may give itself away to either side
        near = abs(interval.value) if finding.verdict == "yes" else interval.high
    return near if math.isfinite(near) else -math.inf


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
