"""The results of an audit of one model, as plain values that are written, read and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.charts import BarChart, Curve, finite, interval_from, interval_record
from soul_lightning.reports.findings import Finding
from soul_lightning.reports.strict_records import NUMBER, read_fields, read_list

FORMAT = 1
"""Of the records; one that reads differently has another number."""
_TEXT_OR_NONE = (str, type(None))


@dataclass(frozen=True, slots=True)
class AuditPart:
    """What one callback found, or why it did not run.

    Attributes:
        name: The callback's name.
        kind: Its class.
        metrics: By name; none where a number has no meaning, which a number that is not finite is turned into.
        findings: What it says to the questions.
        seconds: How long it took.
        curves: What it measured over steps, layers and the like.
        bars: What it measured of several ways of asking and the like.
        notes: Sentences to read with its numbers.
        not_run: Why it did not run, as a sentence without a full stop; none if it did.
    """

    name: str
    kind: str
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    seconds: float = 0.0
    curves: Sequence[Curve] = ()
    bars: Sequence[BarChart] = ()
    notes: Sequence[str] = ()
    not_run: str | None = None

    def __post_init__(self) -> None:
        """Keep tuples and finite numbers."""
        for name in ("findings", "curves", "bars", "notes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "metrics", {name: finite(value) for name, value in self.metrics.items()})

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "metrics": dict(self.metrics),
            "findings": [_finding_record(finding) for finding in self.findings],
            "seconds": self.seconds,
            "curves": [curve.record() for curve in self.curves],
            "bars": [chart.record() for chart in self.bars],
            "notes": list(self.notes),
            "not_run": self.not_run,
        }

    @classmethod
    def from_record(cls, record: Any) -> AuditPart:
        """A part from what `record` gave.

        Raises:
            MisconfigurationError: It is something else.
        """
        fields = read_fields(
            record, "a part of an audit", name=str, kind=str, metrics=dict, findings=list, seconds=(float, int),
            curves=list, bars=list, notes=list, not_run=_TEXT_OR_NONE,
        )  # fmt: skip
        read_fields(fields["metrics"], f"the part {fields['name']!r}", **dict.fromkeys(fields["metrics"], NUMBER))
        for name, read in (
            ("findings", _finding_from), ("curves", Curve.from_record), ("bars", BarChart.from_record),
            ("notes", _note),
        ):  # fmt: skip
            fields[name] = read_list(fields[name], read)
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """An audit of one model.

    Attributes:
        model: The folder, or the name, of the model.
        hash_before: Of the model's files before the first part.
        hash_after: The same after the last part.
        reference: The model that never saw what is forgotten; none without one.
        original: The model before unlearning; none without one.
        config: The configuration's file or recipe.
        config_hash: See `soul_lightning.cli.summary.config_hash`.
        seed: What `${seed}` stands for in the configuration.
        versions: Releases, by package.
        date: When the audit ended: ISO 8601 with the offset from UTC.
        minutes_allowed: The budget; none without one.
        minutes_used: By all parts, those of an earlier run that this one went on with too.
        parts: In the order in which they were to run.

    Raises:
        MisconfigurationError: `date` is no date with an offset, or two parts have one name.
    """

    model: str
    hash_before: str
    hash_after: str
    reference: str | None
    original: str | None
    config: str
    config_hash: str
    seed: int
    versions: Mapping[str, str]
    date: str
    minutes_allowed: float | None
    minutes_used: float
    parts: Sequence[AuditPart]

    def __post_init__(self) -> None:
        """Refuse what cannot be told apart or placed in time."""
        object.__setattr__(self, "parts", tuple(self.parts))
        try:
            has_offset = datetime.fromisoformat(self.date).tzinfo is not None
        except ValueError:
            has_offset = False
        if not has_offset:
            raise MisconfigurationError(
                f"an audit has the date {self.date!r}, which is no ISO 8601 date with an offset; write it as "
                f"2026-05-17T09:30:00+00:00"
            )
        names = [part.name for part in self.parts]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise MisconfigurationError(f"two parts of an audit are called {twice!r}; give one of them another name")

    @property
    def is_unchanged(self) -> bool:
        """Whether the model's files are the same as before."""
        return self.hash_before == self.hash_after

    @property
    def findings(self) -> list[Finding]:
        """Those of all parts."""
        return [finding for part in self.parts for finding in part.findings]

    @property
    def not_run(self) -> list[AuditPart]:
        """The parts that did not run."""
        return [part for part in self.parts if part.not_run is not None]

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "format": FORMAT,
            "model": self.model,
            "hash_before": self.hash_before,
            "hash_after": self.hash_after,
            "reference": self.reference,
            "original": self.original,
            "config": self.config,
            "config_hash": self.config_hash,
            "seed": self.seed,
            "versions": dict(self.versions),
            "date": self.date,
            "minutes_allowed": self.minutes_allowed,
            "minutes_used": self.minutes_used,
            "parts": [part.record() for part in self.parts],
        }

    @classmethod
    def from_record(cls, record: Any) -> AuditReport:
        """An audit from what `record` gave.

        Raises:
            MisconfigurationError: It is something else, or of another format.
        """
        if isinstance(record, Mapping) and record.get("format") != FORMAT:
            raise MisconfigurationError(
                f"the audit has the format {record.get('format')!r}, and this release reads {FORMAT}; audit again"
            )
        fields = read_fields(
            record, "an audit", format=int, model=str, hash_before=str, hash_after=str, reference=_TEXT_OR_NONE,
            original=_TEXT_OR_NONE, config=str, config_hash=str, seed=int, versions=dict, date=str,
            minutes_allowed=NUMBER, minutes_used=(float, int), parts=list,
        )  # fmt: skip
        read_fields(fields["versions"], "the audit's versions", **dict.fromkeys(fields["versions"], str))
        del fields["format"]
        return cls(**fields | {"parts": read_list(fields["parts"], AuditPart.from_record)})


def _note(text: Any) -> str:
    sentence: str = read_fields({"note": text}, "a part's notes", note=str)["note"]
    return sentence


def _finding_record(finding: Finding) -> dict[str, Any]:
    return finding.record() | interval_record(finding.value)


def _finding_from(record: Any) -> Finding:
    fields = read_fields(
        record, "a finding", question=str, source=str, measure=str, value=NUMBER, low=NUMBER, high=NUMBER,
        confidence=(float, int), examples=int, subjects=int, verdict=str,
    )  # fmt: skip
    value: Interval = interval_from(fields)
    return Finding.from_record(fields | {"value": value.value, "low": value.low, "high": value.high})
