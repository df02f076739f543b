"""What a callback measured of each example, as rows in a file that another run can be compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.files import replaced_when_written
from soul_lightning.protocols import Probe

Value: TypeAlias = float | str | bool
RowFormat = Literal["jsonl", "parquet"]
OWN_COLUMNS = ("model", "probe", "role", "index", "subject", "probe_hash")
"""The columns of a rows file that are not measured values."""
_REQUIRED = ("probe", "index", "probe_hash")


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """Numbers of one example under one model.

    Attributes:
        probe: `Probe.name`.
        role: `Probe.role`.
        index: `Example.index`.
        subject: What the example is about; empty where it says nothing of it. The unit of resampling.
        probe_hash: See `probe_hash`; rows with different hashes cannot be compared.
        values: Measured values by name; those that have no meaning for a row are left out, and are lost in a file if
            they are not a number (NaN).
    """

    probe: str
    role: str
    index: int
    subject: str
    probe_hash: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """The example, whatever the model: (probe, index)."""
        return self.probe, self.index

    @property
    def entity(self) -> str:
        """What is drawn together in a bootstrap: the subject, or the row by itself."""
        return self.subject or f"{self.probe} {self.index}"

    def record(self) -> dict[str, Any]:
        """The row as one flat mapping of plain values."""
        own = (self.probe, self.role, self.index, self.subject, self.probe_hash)
        return {**dict(zip(OWN_COLUMNS[1:], own, strict=True)), **self.values}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MeasuredRow:
        """A row from what `record` gave; further columns are values.

        Raises:
            MisconfigurationError: A column is missing, or holds something else than one number or text.
        """
        missing = [name for name in _REQUIRED if record.get(name) in (None, "")]
        if missing:
            raise MisconfigurationError(f"{' and '.join(missing)} missing")
        if type(record["index"]) is not int:
            raise MisconfigurationError(f"index is {record['index']!r}")
        # An empty cell is None, and in JSON so is what is not a number.
        known = {name: value for name, value in record.items() if value is not None and value == value}
        values = {name: value for name, value in known.items() if name not in OWN_COLUMNS}
        wrong = next((name for name, value in values.items() if not isinstance(value, float | int | str)), None)
        if wrong is not None:
            raise MisconfigurationError(f"{wrong} is {values[wrong]!r:.40}")
        return cls(
            str(record["probe"]), str(record.get("role") or ""), record["index"], str(record.get("subject") or ""),
            str(record["probe_hash"]), values,
        )  # fmt: skip


def probe_hash(probe: Probe, **settings: object) -> str:
    """A hash of what is measured: the rows, their role, how they are written, and `settings` that change numbers.

    Args:
        probe: The rows, order included, with their template.
        settings: Such as `max_tokens`.

    Returns:
        16 hexadecimal digits.
    """
    said = [
        probe.role,
        rows_hash(probe.examples),
        repr(probe.template),
        sorted((name, repr(value)) for name, value in settings.items()),
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def write_measured(path: Path, rows: Iterable[MeasuredRow], model: str) -> None:
    """Write rows of one model; the file is whole or not there.

    Args:
        path: A file whose name ends in `.jsonl`, for one JSON object a line, or in `.parquet`.
        rows: The rows.
        model: Stands in every row, for whoever reads several files together; a reference is one model's file.
    """
    records = [{"model": model, **row.record()} for row in rows]
    with replaced_when_written(path) as temporary:
        if path.suffix.lower() == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            columns = dict.fromkeys(name for record in records for name in record)
            table = pa.table({name: [record.get(name) for record in records] for name in columns})
            parquet.write_table(table, temporary)
        else:
            lines = (json.dumps(record, ensure_ascii=False) for record in records)
            temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_measured(path: Path) -> list[MeasuredRow]:
    """Read what `write_measured` wrote.

    Raises:
        MisconfigurationError: There is no such file, it is empty, or a line is no row.
    """
    from soul_lightning.records.sources import RecordSource, read_records

    table = read_records(RecordSource(str(path)), "the rows file")
    if not table.rows:
        raise MisconfigurationError(f"the rows file {str(path)!r} has no rows; measure that model again")
    rows = []
    for number, record in zip(table.numbers, table.rows, strict=True):
        try:
            rows.append(MeasuredRow.from_record(record))
        except MisconfigurationError as error:
            raise MisconfigurationError(
                f"{table.unit} {number} of the rows file {str(path)!r} holds no measured row ({error}); "
                f"give a file that a callback wrote into rows/"
            ) from error
    return rows


def check_measured(rows: Sequence[MeasuredRow], expected: Mapping[str, str], source: str) -> list[MeasuredRow]:
    """The rows of the probes at hand.

    Args:
        rows: Rows of one model, of these and perhaps of other probes.
        expected: `probe_hash` by name of each probe that must be among them.
        source: Where the rows come from, for the error.

    Raises:
        MisconfigurationError: A probe is missing, its rows are of other examples or of other settings, or a row stands
            there twice.
    """
    wanted_rows = [row for row in rows if row.probe in expected]
    found: dict[str, set[str]] = {}
    for row in wanted_rows:
        found.setdefault(row.probe, set()).add(row.probe_hash)
    for probe, wanted in expected.items():
        others = sorted(found.get(probe, set()) - {wanted})
        if others or probe not in found:
            had = f"the hash {others[0]}" if others else "no row"
            raise MisconfigurationError(
                f"{source} has {had} for the probe {probe!r}, whose rows, template and settings now have the hash "
                f"{wanted}, so that its numbers are of something else; measure that model again with this configuration"
            )
    examples = {row.key for row in wanted_rows}
    if len(examples) < len(wanted_rows):
        raise MisconfigurationError(
            f"{source} has {len(wanted_rows)} rows of {len(examples)} examples, so that it cannot stand for one model; "
            f"give the rows of one model alone"
        )
    return wanted_rows
