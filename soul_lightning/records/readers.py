"""The kinds of files that rows are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from soul_lightning.records.json_rows import json_line_rows, json_rows
from soul_lightning.records.parquet_rows import parquet_rows
from soul_lightning.records.separated_rows import separated_rows
from soul_lightning.records.table import TEXT_COLUMN, NumberedRow
from soul_lightning.records.text_files import GZIP_SUFFIX, text_lines

PLAIN_TEXT = ".txt"


def file_kind(path: Path) -> str:
    """The ending by which a file is read, in small letters: `.jsonl` for rows.JSONL and for rows.jsonl.gz alike."""
    suffix = path.suffix.lower()
    if suffix != GZIP_SUFFIX:
        return suffix
    inner = path.with_suffix("").suffix.lower()
    return suffix if inner in ("", ".parquet") else inner


def paragraph_rows(path: Path) -> Iterator[NumberedRow]:
    """Texts between empty lines, each with the number of its first line."""
    text: list[str] = []
    first = 0
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip():
            first = first if text else number
            text.append(line.rstrip() if text else line.strip())
        elif text:
            yield first, {TEXT_COLUMN: "\n".join(text)}
            text = []
    if text:
        yield first, {TEXT_COLUMN: "\n".join(text)}


LAZY_READERS: dict[str, Callable[[Path], Iterator[NumberedRow]]] = {
    ".jsonl": json_line_rows,
    ".ndjson": json_line_rows,
    ".csv": partial(separated_rows, separator=","),
    ".tsv": partial(separated_rows, separator="\t"),
    ".parquet": parquet_rows,
    PLAIN_TEXT: paragraph_rows,
}
"""Kinds of files that are read row by row, see `file_kind`."""
READERS: dict[str, Callable[[Path], Iterator[NumberedRow]]] = {**LAZY_READERS, ".json": json_rows}
"""All kinds; a .json file is decoded as a whole."""
COUNTED_BY_ROW = (".json", ".parquet")
"""Kinds whose rows are numbered; the others' places are lines."""
