"""An audit's results: what is written is what is read, and nothing else is."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.charts import Series
from tests.reports.sample_audit import finding, sample_audit

Change = Callable[[dict[str, Any]], object]


def without_bars(report: AuditReport) -> AuditReport:
    """A number that is none equals nothing, not even itself: the bars that hold one are looked at apart."""
    return replace(report, parts=[replace(part, bars=()) for part in report.parts])


def read_back(report: AuditReport) -> AuditReport:
    return AuditReport.from_record(json.loads(json.dumps(report.record(), allow_nan=False)))


def test_what_is_written_is_read() -> None:
    report = sample_audit()
    read = read_back(report)
    assert without_bars(read) == without_bars(report)
    assert read.record() == report.record()
    ((_, value),) = read.parts[6].bars[0].rows
    assert math.isnan(value.value) and math.isnan(value.low) and math.isnan(value.high)


def test_lists_are_kept_as_tuples_and_what_is_not_finite_as_none() -> None:
    part = AuditPart("p", "P", {"nan": math.nan, "inf": math.inf, "one": 1}, findings=[])
    assert part.metrics == {"nan": None, "inf": None, "one": 1.0}
    assert part.findings == ()
    assert replace(sample_audit(), parts=[part]).parts == (part,)


def test_an_interval_without_ends_is_read_back() -> None:
    lone = replace(finding("fluent", "p", "of answers", (1, 1, 1), "unclear"), value=Interval(0.5, math.nan, math.inf))
    (found,) = read_back(replace(sample_audit(), parts=[AuditPart("p", "P", findings=[lone])])).findings
    assert found.value.value == 0.5
    assert math.isnan(found.value.low) and math.isnan(found.value.high)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda audit: audit.pop("seed"), "'seed' is missing"),
        (lambda audit: audit.update(more=1), "'more' is unknown"),
        (lambda audit: audit.update(format=2), "format 2"),
        (lambda audit: audit.update(seed="1"), "'1' as its 'seed'"),
        (lambda audit: audit.update(seed=True), "True as its 'seed'"),
        (lambda audit: audit.update(minutes_used=None), "None as its 'minutes_used'"),
        (lambda audit: audit.update(date="yesterday"), "'yesterday'"),
        (lambda audit: audit.update(date="2026-05-17T09:30:00"), "offset"),
        (lambda audit: audit["versions"].update(torch=2), "2 as its 'torch'"),
        (lambda audit: audit.update(parts=[3]), "a part of an audit is 3"),
        (lambda audit: audit["parts"][0]["metrics"].update(what="0.1"), "'0.1' as its 'what'"),
        (lambda audit: audit["parts"][0].update(name="relearning"), "called 'relearning'"),
        (lambda audit: audit["parts"][0]["findings"][0].update(question="why"), "'why'"),
        (lambda audit: audit["parts"][0]["findings"][0].update(verdict="maybe"), "'maybe'"),
        (lambda audit: audit["parts"][0]["findings"][0].update(examples=4.5), "4.5 as its 'examples'"),
        (lambda audit: audit["parts"][0]["bars"][0]["rows"][0].pop("low"), "'low' is missing"),
        (lambda audit: audit["parts"][1]["curves"][0]["series"]["audited model"]["y"].pop(), "13 x and 12 y"),
        (lambda audit: audit["parts"][1]["curves"][0]["series"]["audited model"].update(high=None), "one end"),
        (lambda audit: audit["parts"][1]["curves"][0]["series"]["audited model"]["x"].__setitem__(0, "0"), "'x'"),
        (lambda audit: audit["parts"][1]["curves"][0]["series"]["audited model"]["x"].__setitem__(0, None), "x that"),
    ],
)
def test_anything_else_is_refused_and_named(change: Change, named: str) -> None:
    record = copy.deepcopy(sample_audit().record())
    change(record)
    with pytest.raises(MisconfigurationError, match=named):
        AuditReport.from_record(record)


@pytest.mark.parametrize("record", [None, [], "audit", 3])
def test_what_is_no_mapping_is_refused(record: object) -> None:
    with pytest.raises(MisconfigurationError, match="not a mapping"):
        AuditReport.from_record(record)


def test_a_series_keeps_gaps_and_needs_both_ends() -> None:
    series = Series([0, 1], [math.nan, 2], [None, 1], [math.inf, 3])
    assert (series.x, series.y, series.low, series.high) == ((0.0, 1.0), (None, 2.0), (None, 1.0), (None, 3.0))
    with pytest.raises(MisconfigurationError, match="no finite number"):
        Series([math.nan], [1])
    with pytest.raises(MisconfigurationError, match="one end"):
        Series([1], [1], low=[0])


def test_a_changed_model_is_known() -> None:
    report = sample_audit()
    assert report.is_unchanged and not replace(report, hash_after="0").is_unchanged
    assert [part.name for part in report.not_run] == ["relearning-unrelated", "forget-quality"]
