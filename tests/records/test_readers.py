"""Rows come out of every kind of file as they went in, and no file raises anything but a sentence about itself."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.readers import LAZY_READERS, READERS, file_kind
from soul_lightning.records.sources import RecordSource, read_records
from soul_lightning.records.table import RecordTable

Rows = list[dict[str, str]]


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(delimiter: str) -> Callable[[Rows], bytes]:
    def write(rows: Rows) -> bytes:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, ["prompt", "answer"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue().encode()

    return write


def table(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    ".jsonl": json_lines,
    ".ndjson": lambda rows: json_lines(rows).replace(b"\n", b"\r\n"),
    ".json": lambda rows: json.dumps(rows, indent=1).encode(),
    ".csv": separated(","),
    ".tsv": separated("\t"),
    ".parquet": table,
}
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
ROWS = st.lists(st.fixed_dictionaries({"prompt": TEXTS, "answer": TEXTS}), min_size=1, max_size=4)


def read(name: str, data: bytes, **settings: int) -> RecordTable:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return read_records(RecordSource(str(path), **settings), "forget")  # type: ignore[arg-type]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=25)
@given(rows=ROWS)
def test_rows_come_out_as_they_went_in(kind: str, packed: bool, rows: Rows) -> None:
    if packed and kind == ".parquet":
        return
    data = WRITERS[kind](rows)
    found = read(f"rows{kind}.gz", gzip.compress(data)) if packed else read(f"rows{kind}", data)
    assert [dict(row) for row in found.rows] == rows
    assert list(found.numbers) == sorted(found.numbers)


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60)
@given(data=st.binary(max_size=60), packed=st.booleans())
def test_any_bytes_are_rows_or_one_sentence(kind: str, data: bytes, packed: bool) -> None:
    name = f"rows{kind}.gz" if packed and kind != ".parquet" else f"rows{kind}"
    try:
        assert isinstance(read(name, data), RecordTable)
    except MisconfigurationError as error:
        assert name in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=40)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_rows_or_one_sentence(kind: str, place: int, byte: int, cut: bool) -> None:
    whole = WRITERS[kind]([{"prompt": "who, now", "answer": 'a "pilot"\nof old'}, {"prompt": "where", "answer": "é"}])
    place %= len(whole)
    damaged = whole[:place] if cut else whole[:place] + bytes([byte]) + whole[place + 1 :]
    try:
        read(f"rows{kind}", damaged)
    except MisconfigurationError as error:
        assert f"rows{kind}" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", LAZY_READERS)
def test_no_more_is_read_than_is_wanted(kind: str) -> None:
    rows = [{"prompt": "who", "answer": f"ada {number}"} for number in range(50_000)]
    if kind == ".parquet":
        assert len(read("rows.parquet", table(rows), first_rows=3).rows) == 3
        return
    data = WRITERS[kind](rows[:5000]) if kind in WRITERS else b"ada\n\n" * 5000
    found = read(f"rows{kind}", data + b"\xff\xfe no text at all", first_rows=3)
    assert len(found.rows) == 3


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ".jsonl"), ("A.CSV", ".csv"), ("a.b.json.gz", ".json"), ("a.TXT.GZ", ".txt"),
        ("a.parquet.gz", ".gz"), ("a.gz", ".gz"), ("a", ""), (".jsonl", ""),
    ],
)  # fmt: skip
def test_kinds(name: str, kind: str) -> None:
    assert file_kind(Path("/x.y") / name) == kind
