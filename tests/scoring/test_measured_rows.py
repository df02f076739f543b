"""Rows of measured numbers: written whole, read back from both kinds of file, and refused where they are of others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.measured_rows import (
    MeasuredRow,
    check_measured,
    probe_hash,
    read_measured,
    write_measured,
)
from tests.conftest import FORGET, PLAIN, as_examples

FORMATS = ("jsonl", "parquet")
PROBE = Probe("forget", "question", as_examples(FORGET), "forget", PLAIN)
ROWS = [
    MeasuredRow("forget", "forget", 0, "ada", "a1", {"nll": 1.25, "tokens": 3, "fluent": True, "answer": "in paris"}),
    MeasuredRow("forget", "forget", 7, "", "a1", {"nll": float("inf"), "answer": ""}),
    MeasuredRow("für später", "holdout", 1, "zoë 李", "b2", {"answer": 'a\nb \u2028 "é" 🙂\t\\', "norm": -1e-30}),
    MeasuredRow("empty", "", 2, "bela", "c3"),
]


def written(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """A rows file that this package did not write."""
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_with_different_values_come_back_as_they_were(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "rows" / f"memorization_before.{kind}"
    write_measured(path, iter(ROWS), "before")
    found = read_measured(path)
    assert found == ROWS
    assert [{name: type(value) for name, value in row.values.items()} for row in found[:2]] == [
        {"nll": float, "tokens": int, "fluent": bool, "answer": str},
        {"nll": float, "answer": str},
    ]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "nll": st.floats(allow_nan=False),
        "tokens": st.integers(0, 2**53),
        "fluent": st.booleans(),
        "answer": TEXTS,
    },
)


@pytest.mark.parametrize("kind", FORMATS)
@given(values=st.lists(VALUES, min_size=1, max_size=4), subject=TEXTS)
def test_any_values_come_back(tmp_path_factory: pytest.TempPathFactory, kind: str, values: Any, subject: str) -> None:
    rows = [MeasuredRow("p", "forget", index, subject, "h", each) for index, each in enumerate(values)]
    path = tmp_path_factory.mktemp("rows") / f"x.{kind}"
    write_measured(path, rows, "model")
    assert read_measured(path) == rows


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_no_number_has_no_meaning_in_either_format(tmp_path: Path, kind: str) -> None:
    write_measured(tmp_path / f"x.{kind}", [replace(ROWS[0], values={"nll": float("nan"), "tokens": 3})], "after")
    assert read_measured(tmp_path / f"x.{kind}")[0].values == {"tokens": 3}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_model_stands_in_every_row(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    write_measured(path, ROWS, "retain-only")
    models = (
        parquet.read_table(path)["model"].to_pylist()
        if kind == "parquet"
        else [json.loads(line)["model"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    )
    assert models == ["retain-only"] * 4


@pytest.mark.parametrize("kind", FORMATS)
def test_a_write_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"x.{kind}"
    write_measured(path, ROWS, "before")

    def break_off(target: Path, *_: object, **__: object) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(Path, "write_text", break_off)
        patch.setattr(parquet, "write_table", lambda _, target: break_off(target))
        write_measured(path, ROWS[:1], "before")
    assert read_measured(path) == ROWS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_keys_and_entities() -> None:
    assert ROWS[0].key == ("forget", 0)
    assert [row.entity for row in ROWS] == ["ada", "forget 7", "zoë 李", "bela"]
    assert MeasuredRow.from_record(ROWS[0].record()) == ROWS[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_only_what_names_the_example_is_required(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"x.{kind}", [{"probe": "p", "index": 0, "probe_hash": "h", "nll": 2.0}])
    assert read_measured(path) == [MeasuredRow("p", "", 0, "", "h", {"nll": 2.0})]


GOOD: dict[str, Any] = {"probe": "p", "index": 1, "probe_hash": "h"}
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"probe": "p", "index": 1}, "probe_hash missing"),
    ({"index": 1, "role": "forget"}, "probe and probe_hash missing"),
    ({**GOOD, "probe": ""}, "probe missing"),
    ({**GOOD, "index": "1"}, "index is '1'"),
    ({**GOOD, "index": 1.5}, "index is 1.5"),
    ({**GOOD, "index": True}, "index is True"),
    ({**GOOD, "nll": [1.0, 2.0]}, r"nll is \[1.0, 2.0\]"),
]


@pytest.mark.parametrize(("record", "message"), FAULTS)
def test_a_wrong_line_is_named_by_its_number(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(record)}\n")
    with pytest.raises(MisconfigurationError, match=rf"line 3 of the rows file '.*x\.jsonl' .*\({message}\)") as caught:
        read_measured(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", [GOOD, {**GOOD, "probe_hash": None}])
    with pytest.raises(MisconfigurationError, match=r"row 2 of the rows file .*\(probe_hash missing\)"):
        read_measured(path)
    with pytest.raises(MisconfigurationError, match=r"row 1 of the rows file .*\(probe and probe_hash missing\)"):
        read_measured(written(tmp_path / "y.parquet", [{"index": 4}]))


def test_files_that_hold_no_rows_are_refused(tmp_path: Path) -> None:
    for kind in FORMATS:
        write_measured(tmp_path / f"x.{kind}", [], "before")
        with pytest.raises(MisconfigurationError, match=rf"x\.{kind}' has no rows; measure that model again"):
            read_measured(tmp_path / f"x.{kind}")
    with pytest.raises(MisconfigurationError, match=r"the rows file: there is no file .*none\.jsonl"):
        read_measured(tmp_path / "none.jsonl")
    (tmp_path / "torn.jsonl").write_text(f"{json.dumps(GOOD)}\n{{")
    with pytest.raises(MisconfigurationError, match=r"torn\.jsonl:2 is not valid JSON"):
        read_measured(tmp_path / "torn.jsonl")


def changed(place: int = 0, **fields: Any) -> Probe:
    examples: list[Example] = list(PROBE.examples)
    examples[place] = replace(examples[place], **fields)
    return replace(PROBE, examples=examples)


def test_the_hash_says_what_is_measured() -> None:
    plain = probe_hash(PROBE, max_tokens=32, k=0.2)
    assert len(plain) == 16 and int(plain, 16) >= 0
    assert probe_hash(replace(PROBE, examples=as_examples(FORGET)), k=0.2, max_tokens=32) == plain
    assert probe_hash(replace(PROBE, name="other"), max_tokens=32, k=0.2) == plain
    others = [
        probe_hash(replace(PROBE, role="holdout"), max_tokens=32, k=0.2),
        probe_hash(changed(answer="rome"), max_tokens=32, k=0.2),
        probe_hash(changed(prompt="ada lived in"), max_tokens=32, k=0.2),
        probe_hash(changed(paraphrase="the city of paris"), max_tokens=32, k=0.2),
        probe_hash(changed(perturbed=("oslo",)), max_tokens=32, k=0.2),
        probe_hash(changed(context="who ? "), max_tokens=32, k=0.2),
        probe_hash(replace(PROBE, examples=PROBE.examples[::-1]), max_tokens=32, k=0.2),
        probe_hash(replace(PROBE, examples=PROBE.examples[:-1]), max_tokens=32, k=0.2),
        probe_hash(replace(PROBE, template=replace(PLAIN, answer="  {answer}")), max_tokens=32, k=0.2),
        probe_hash(replace(PROBE, template=replace(PLAIN, end_of_text=False)), max_tokens=32, k=0.2),
        probe_hash(PROBE, max_tokens=31, k=0.2),
        probe_hash(PROBE, max_tokens=32, k=0.3),
        probe_hash(PROBE, max_tokens=32),
        probe_hash(PROBE, max_tokens=32, k="0.2"),
    ]
    assert len({plain, *others}) == 1 + len(others)


def test_rows_of_the_probes_at_hand_are_taken() -> None:
    expected = {"forget": "a1", "für später": "b2"}
    assert check_measured(ROWS, expected, "a file") == ROWS[:3]
    assert check_measured(ROWS, {}, "a file") == []


def test_rows_of_something_else_are_refused_in_one_sentence() -> None:
    cases = [
        (ROWS, {"forget": "d4"}, r"a file has the hash a1 for the probe 'forget', .* have the hash d4, .* again"),
        (ROWS, {"forget": "a1", "retain": "e5"}, r"a file has no row for the probe 'retain', .* have the hash e5"),
        # rows of an older run stand before those of the probe at hand
        ([replace(ROWS[0], index=9, probe_hash="f6"), *ROWS], {"forget": "a1"}, "has the hash f6 for the probe"),
        # rows of two models stand behind one another
        ([*ROWS, *ROWS], {"forget": "a1"}, "a file has 4 rows of 2 examples, .* give the rows of one model alone"),
    ]
    for rows, expected, message in cases:
        with pytest.raises(MisconfigurationError, match=message) as caught:
            check_measured(rows, expected, "a file")
        assert "\n" not in str(caught.value)
