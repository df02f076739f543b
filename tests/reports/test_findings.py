"""Findings, their records, and what several of them say together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.findings import (
    QUESTIONS,
    WISHED,
    Finding,
    Verdict,
    above,
    above_all,
    at_least,
    says_most,
    verdict_of,
)

FINDING = Finding("remembers", "prompts", "answered, above guessing", Interval(0.4, 0.3, 0.5), 0.95, 48, 12, "yes")


def test_a_record_reads_back() -> None:
    assert Finding.from_record(FINDING.record()) == FINDING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "why"}, "'why'"),
        ({"verdict": "perhaps"}, "'perhaps'"),
        ({"colour": "red"}, "cannot be read"),
    ],
)
def test_another_record_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Finding.from_record(FINDING.record() | change)
    incomplete = FINDING.record()
    del incomplete["low"]
    with pytest.raises(MisconfigurationError, match="low"):
        Finding.from_record(incomplete)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.05, "yes"), (-0.02, 0.1, "no"), (-0.02, 0.11, "unclear"), (0.0, 0.3, "unclear"), (-0.5, -0.2, "no")],
)
def test_above(low: float, high: float, verdict: Verdict) -> None:
    assert above(Interval(0.0, low, high)) == verdict


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.8, 0.9, "yes"), (0.1, 0.79, "no"), (0.7, 0.8, "unclear")])
def test_at_least(low: float, high: float, verdict: Verdict) -> None:
    assert at_least(Interval(0.0, low, high), 0.8) == verdict


HIGH, LOWER, DOUBTFUL, NOTHING = (
    Interval((low + high) / 2, low, high) for low, high in ((0.4, 0.6), (0.1, 0.9), (-0.3, 0.5), (-0.05, 0.05))
)


@pytest.mark.parametrize(
    ("compared", "name", "verdict"),
    [
        ({"a": HIGH, "b": LOWER}, "b", "yes"),
        ({"a": HIGH, "b": DOUBTFUL}, "b", "unclear"),
        ({"a": NOTHING, "b": DOUBTFUL}, "a", "no"),
        ({"a": HIGH}, "a", "yes"),
    ],
)
def test_a_number_is_above_all_that_it_is_compared_with_or_not(
    compared: dict[str, Interval], name: str, verdict: Verdict
) -> None:
    assert above_all(compared) == (name, verdict)


def test_of_several_attacks_none_leaves_a_doubt_or_one_is_shown() -> None:
    def shown(*intervals: Interval) -> list[Interval]:
        found = [replace(FINDING, value=interval, verdict=above(interval)) for interval in intervals]
        return [finding.value for finding in says_most(found)]

    assert shown(NOTHING, DOUBTFUL, LOWER, HIGH) == [HIGH]
    assert shown(NOTHING, DOUBTFUL) == [DOUBTFUL]
    assert shown(NOTHING) == [NOTHING]
    assert shown() == []


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_feared_answer_wins_and_the_hoped_for_one_needs_all(question: Any) -> None:
    hoped: Verdict = "no" if WISHED[question] == "no" else "yes"
    feared: Verdict = "yes" if hoped == "no" else "no"

    def said(*verdicts: Verdict) -> Verdict:
        return verdict_of(question, [replace(FINDING, question=question, verdict=each) for each in verdicts])

    assert said(hoped, hoped) == hoped
    assert said(hoped, "unclear", feared) == feared
    assert said(hoped, "unclear") == "unclear"
    assert said() == "unclear"


def test_findings_on_other_questions_are_not_looked_at() -> None:
    assert verdict_of("fluent", [FINDING]) == "unclear"
