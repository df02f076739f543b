"""Streamed sources are read block by block, from wherever a run stands, and never further than needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.datamodules import RecordSource
from soul_lightning.datamodules.streamed_rows import StreamedRows
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example
from soul_lightning.records import readers
from soul_lightning.records.sources import check_source, read_records
from soul_lightning.records.table import NumberedRow, RecordTable
from tests.datamodules.text_world import write_rows


def examples(table: RecordTable) -> list[Example]:
    return [Example(text, index=index) for index, text in enumerate(table.texts("text"))]


def streamed(path: str, shuffle_rows: int = 3, **settings: int) -> StreamedRows:
    return StreamedRows(RecordSource(path, streamed=True, shuffle_rows=shuffle_rows), "retain", examples, ("text",),
                        **settings)  # fmt: skip


def numbered_texts(count: int) -> list[dict[str, object]]:
    return [{"text": f"ada plays {number}"} for number in range(count)]


def kinds(folder: Path) -> Iterator[str]:
    """The same ten texts in every kind of source."""
    rows = numbered_texts(10)
    yield write_rows(folder / "rows.jsonl", rows)
    (folder / "rows.txt").write_text("\n\n".join(str(row["text"]) for row in rows))
    yield str(folder / "rows.txt")
    (folder / "rows.csv").write_text("text\n" + "".join(f"{row['text']}\n" for row in rows))
    yield str(folder / "rows.csv")
    (folder / "mirror").mkdir()
    write_rows(folder / "mirror" / "train-0.jsonl", rows[:6])
    write_rows(folder / "mirror" / "train-1.jsonl", rows[6:])
    yield str(folder / "mirror")


def test_every_kind_of_source_gives_the_same_blocks(tmp_path: Path) -> None:
    for path in kinds(tmp_path):
        blocks = list(streamed(path).blocks())
        assert [(block.row, len(block.examples), block.empty) for block in blocks] == [
            (0, 3, 0), (3, 3, 0), (6, 3, 0), (9, 1, 0),
        ]  # fmt: skip
        rows = [example for block in blocks for example in block.examples]
        assert [(row.index, row.answer) for row in rows] == [(number, f"ada plays {number}") for number in range(10)]


@given(count=st.integers(1, 14), size=st.integers(1, 6), first=st.integers(0, 14), most=st.none() | st.integers(1, 14))
def test_a_pass_read_from_a_block_on_is_its_end(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, first: int, most: int | None
) -> None:
    path = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", numbered_texts(count))
    source = StreamedRows(
        RecordSource(path, streamed=True, shuffle_rows=size), "retain", examples, ("text",), first, most
    )
    whole = list(source.blocks())
    indices = [example.index for block in whole for example in block.examples]
    assert indices == list(range(count))[first : None if most is None else first + most]
    for number, block in enumerate(whole):
        assert list(source.blocks(block.row)) == whole[number:]


def test_no_more_is_read_than_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(path: Path) -> Iterator[NumberedRow]:
        for number, line in enumerate(path.open(), start=1):
            read.append(number)
            yield number, json.loads(line)

    monkeypatch.setitem(readers.LAZY_READERS, ".jsonl", counted)
    source = streamed(write_rows(tmp_path / "rows.jsonl", numbered_texts(100)), shuffle_rows=5)
    assert [row.index for row in source.head(7)] == list(range(7))
    assert len(read) == 10
    next(replace(source, first=20).blocks())
    assert len(read) == 10 + 25


def test_rows_that_say_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": "ada"}, {"text": " "}, {"text": None}, {"text": "bela"}, {"other": "cora"}, {"text": "dina"}]
    (block,) = streamed(write_rows(tmp_path / "rows.jsonl", rows), shuffle_rows=9).blocks()  # type: ignore[arg-type]
    assert [(row.index, row.answer) for row in block.examples] == [(0, "ada"), (3, "bela"), (5, "dina")]
    assert block.empty == 3


def test_mistakes_are_told_with_their_line(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [*numbered_texts(4), {"text": 7}]
    with pytest.raises(
        MisconfigurationError, match=r"rows\.jsonl hold no text in the column 'text', first line 5 with 7"
    ):
        list(streamed(write_rows(tmp_path / "rows.jsonl", rows)).blocks())
    with pytest.raises(MisconfigurationError, match=r"no column 'text' in .*other\.jsonl, which has 'body'"):
        streamed(write_rows(tmp_path / "other.jsonl", [{"body": "ada"}])).head(1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MisconfigurationError, match=r"retain: the folder .*empty holds nothing that can be loaded"):
        streamed(str(tmp_path / "empty")).head(1)


def test_the_hash_follows_where_rows_come_from(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", numbered_texts(2))
    assert streamed(path).hash() == streamed(path).hash()
    others = [streamed(path, first=1), streamed(path, rows=1), streamed(str(tmp_path / "else.jsonl"))]
    assert len({source.hash() for source in (streamed(path), *others)}) == 4


def test_a_copy_has_the_same_hash_and_other_rows_another(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", numbered_texts(2))
    copy = write_rows(tmp_path / "copy.jsonl", numbered_texts(2))
    before = streamed(path).hash()
    assert streamed(copy).hash() == before
    write_rows(tmp_path / "rows.jsonl", numbered_texts(3))
    assert streamed(path).hash() != before


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rows.json", {"streamed": True}, r"rows\.json cannot be streamed, only \.jsonl, .* can; write it as \.jsonl"),
        ("rows.jsonl", {"shuffle_rows": 0}, "shuffle_rows must be >= 1, got 0; 1 keeps the rows in their order"),
    ],
)
def test_sources_that_cannot_be(tmp_path: Path, name: str, settings: dict[str, int], message: str) -> None:
    source = RecordSource(write_rows(tmp_path / name, numbered_texts(1)), **settings)  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match=message):
        check_source(source, "retain")


def test_rows_that_are_kept_in_memory_are_not_streamed(tmp_path: Path) -> None:
    source = RecordSource(write_rows(tmp_path / "rows.jsonl", numbered_texts(1)), streamed=True)
    with pytest.raises(MisconfigurationError, match="holdout rows are kept in memory; leave streamed out"):
        read_records(source, "holdout")


def test_blocks_without_a_text_do_not_end_a_pass(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": ""}, {"text": "ada"}, {"other": "bela"}, {"text": None}, {"text": "cora"}]
    blocks = list(streamed(write_rows(tmp_path / "rows.jsonl", rows), shuffle_rows=1).blocks())
    assert [[row.answer for row in block.examples] for block in blocks] == [[], ["ada"], [], [], ["cora"]]
    assert sum(block.empty for block in blocks) == 3
