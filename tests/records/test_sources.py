"""Each kind of file gives the same rows, and each fault one sentence with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import RecordSource, check_source, read_records
from soul_lightning.records.table import RecordTable

ROWS = [{"prompt": "who, now?", "answer": 'a "pilot"\nof old'}, {"prompt": "where", "answer": "NA"}]


def write(path: Path) -> Path:
    frame = pd.DataFrame(ROWS)
    writers: dict[str, Callable[[], object]] = {
        ".jsonl": lambda: path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n"),
        ".ndjson": lambda: path.write_text("\ufeff" + "\n".join(json.dumps(row) for row in ROWS)),
        ".json": lambda: path.write_text(json.dumps(ROWS)),
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".parquet": lambda: frame.to_parquet(path),
    }
    writers[path.suffix]()
    return path


def read(path: Path) -> RecordTable:
    return read_records(RecordSource(str(path)), "forget")


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"])
def test_every_kind_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    table = read(write(tmp_path / f"rows{suffix}"))
    assert [dict(row) for row in table.rows] == ROWS
    assert table.columns == ["prompt", "answer"]
    assert table.texts("answer") == ['a "pilot"\nof old', "NA"]
    assert table.name == str(tmp_path / f"rows{suffix}")


def test_a_text_file_has_an_empty_line_between_texts(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n one\ntwo \n \n\nthree\n")
    table = read(path)
    assert table.texts("text") == ["one\ntwo", "three"]
    assert list(table.numbers) == [2, 6]


def test_a_csv_cell_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert len(read(path).texts("text")[0]) == 200_000


def test_empty_cells_of_parquet_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"prompt": ["a", None], "answer": ["b", "c"]}).to_parquet(path)
    table = read(path)
    assert table.optional_texts("prompt") == ["a", None]
    with pytest.raises(MisconfigurationError, match=r"1 of 2 rows .* 'prompt', first row 2 with nothing"):
        table.texts("prompt")


def test_a_folder_of_a_data_set_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl")
    table = read_records(RecordSource(str(tmp_path / "set")), "retain")
    assert [dict(row) for row in table.rows] == ROWS
    with pytest.raises(
        MisconfigurationError, match=r"retain: .* split 'tset' .*; set retain to a local file .* or check the name"
    ):
        read_records(RecordSource(str(tmp_path / "set"), split="tset"), "retain")


FAULTS = {
    "broken.jsonl": (
        '{"a": "b"}\n\n{"a": \n',
        r"broken\.jsonl:3 is not valid JSON \(it ends too early\); mend that line, or fetch",
    ),
    "list.jsonl": ("[1]\n", r"list\.jsonl:1 begins a list, not an object"),
    "broken.json": ('[\n{"a": 1},\n]', r"broken\.json:3 is not valid JSON"),
    "object.json": ('{\n"a": 1}', r"object\.json:1 begins one object over several lines, not a list of objects"),
    "mixed.json": ('[{"a": 1}, 2]', r"row 2 of .*mixed\.json is no object"),
    "wide.csv": ("a,b\n1,2\n1,2,3\n", r"wide\.csv:3 begins a row of 3 cells, and the header names 2 columns"),
    "short.csv": ("a,b\n1\n", r"short\.csv:2 begins a row of 1 cells, and the header names 2 columns"),
    "quote.csv": ('a,b\n1,"2\n', r"quote\.csv:2 begins a row that is not valid CSV"),
    "no.parquet": ("no parquet", r"no\.parquet is not a valid Parquet file"),
    "rows.xlsx": ("x", r"rows\.xlsx is of unknown kind '\.xlsx'; the kinds are \.jsonl"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_place(tmp_path: Path, name: str) -> None:
    text, message = FAULTS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(MisconfigurationError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("text\ncafé\n".encode("latin-1"))
    with pytest.raises(MisconfigurationError, match=r"latin\.csv:2 is not UTF-8 text \(byte 8\)"):
        read(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "./rows", "~/no/such/rows", "a/b/c"])
def test_a_missing_file_is_named_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MisconfigurationError, match=r"forget: there is no file /.*; check the path"):
        check_source(RecordSource(name), "forget")


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(MisconfigurationError, match="holdout is an empty path"):
        check_source(RecordSource(" "), "holdout")


def table(*values: object) -> RecordTable:
    return RecordTable("/rows.jsonl", [{"answer": value, "id": "x"} for value in values], range(1, 100), "line")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("a", "", " "), r"2 of 3 rows of /rows\.jsonl hold no text in the column 'answer', first line 2 with nothing"),
        (("a", 5), r"1 of 2 rows .* first line 2 with 5; write text there"),
        ((None, ["a"]), r"2 of 2 rows .* first line 1 with nothing"),
        (("\ud800",), r"1 of 1 rows .* first line 1 with '\\ud800'"),
    ],
)
def test_values_that_are_no_text_are_counted(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        table(*values).texts("answer")


def test_optional_cells_may_be_empty_but_not_numbers() -> None:
    assert table("a", "", None).optional_texts("answer") == ["a", None, None]
    assert table("a", "b").optional_texts(None) == [None, None]
    with pytest.raises(MisconfigurationError, match=r"1 of 2 rows .* first line 2 with 5; write them as text"):
        table("a", 5).optional_texts("answer")


def test_a_missing_column_names_those_there_are() -> None:
    with pytest.raises(
        MisconfigurationError, match=r"no column 'anser' in /rows\.jsonl, which has 'answer', 'id'; did"
    ):
        table("a").texts("anser")
    with pytest.raises(MisconfigurationError, match=r"no column 'zzz' .* 'id'; name one of them"):
        table("a").optional_texts("zzz")
