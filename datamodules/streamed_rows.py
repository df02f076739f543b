"""Rows that are read as they are needed, from sources that memory or disk cannot hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

from soul_lightning.protocols import Example
from soul_lightning.records.readers import COUNTED_BY_ROW, LAZY_READERS, file_kind
from soul_lightning.records.sources import RecordSource, data_set_name, open_data_set, reported
from soul_lightning.records.table import NumberedRow, RecordTable
from soul_lightning.records.text_files import local_path, says_something


class Block(NamedTuple):
    """Neighbouring rows of a source.

    Attributes:
        row: Where the block begins, in rows from the beginning of the source.
        examples: What its rows say, in order; each one's index is its place in the source.
        empty: Rows left out because they say nothing.
    """

    row: int
    examples: list[Example]
    empty: int


@dataclass(frozen=True)
class StreamedRows:
    """A source that is read in blocks of neighbouring rows, of which one at a time is in memory.

    Attributes:
        source: The source; its `shuffle_rows` is the size of a block.
        role: What it is called in messages.
        examples: What the rows of a table say: at most one example a row, whose index is its place in the table.
        columns: Columns that a row must fill; one that does not is left out, for a run shall not end in the middle of a
            large source because of an empty text.
        first: The row that a pass begins with; those before it serve probes.
        rows: Most rows of a pass; all that follow if none is given.
    """

    source: RecordSource
    role: str
    examples: Callable[[RecordTable], list[Example]]
    columns: tuple[str, ...]
    first: int = 0
    rows: int | None = None

    @property
    def name(self) -> str:
        """What messages call the source."""
        return data_set_name(self.source)

    def blocks(self, row: int | None = None) -> Iterator[Block]:
        """A pass in the order of the source.

        Args:
            row: Begin with the block that begins there; with the first one if none is given.

        Raises:
            MisconfigurationError: The source cannot be read, or rows hold something else than text.
        """
        start = self.first if row is None else row
        ends = [end for end in (self.source.first_rows, self.rows and self.first + self.rows) if end]
        with reported(self.source, self.role):
            numbered = self._numbered(start, min(ends, default=None))
            while rows := list(islice(numbered, self.source.shuffle_rows)):
                yield self._block(start, rows)
                start += len(rows)

    def head(self, count: int, besides: Container[Example] = ()) -> list[Example]:
        """The first so many examples of a pass, `besides` left out."""
        examples = (example for block in self.blocks() for example in block.examples if example not in besides)
        return list(islice(examples, count))

    def hash(self) -> str:
        """A hash of the file that the rows come from and of what is read of it, 16 hexadecimal digits.

        The same for a copy of the file elsewhere. A Hugging Face data set stands under its name, subset and split: what
        it holds is not downloaded to be hashed.
        """
        path = local_path(self.source.path)
        source = self.source
        if path.is_file():
            with path.open("rb") as file:
                source = replace(source, path=hashlib.file_digest(file, "sha256").hexdigest())
        where = repr((source, self.columns, self.first, self.rows))
        return hashlib.sha256(where.encode()).hexdigest()[:16]

    def _numbered(self, start: int, stop: int | None) -> Iterator[NumberedRow]:
        path = local_path(self.source.path).absolute()
        if path.is_file():
            return islice(LAZY_READERS[file_kind(path)](path), start, stop)
        rows = open_data_set(self.source, streaming=True).skip(start)
        return enumerate(islice(rows, None if stop is None else max(0, stop - start)), start=start + 1)

    def _block(self, row: int, rows: list[NumberedRow]) -> Block:
        filled = [place for place, (_, cells) in enumerate(rows) if not any(_is_empty(cells, c) for c in self.columns)]
        is_column = [any(column in cells for _, cells in rows) for column in self.columns]
        # A column that the first block lacks is a mistake: reading it says so.
        places = list(range(len(rows))) if row == self.first and not all(is_column) else filled
        if not places:
            return Block(row, [], len(rows))
        kind = file_kind(local_path(self.source.path))
        table = RecordTable(
            self.name,
            [rows[place][1] for place in places],
            [rows[place][0] for place in places],
            "line" if kind in LAZY_READERS and kind not in COUNTED_BY_ROW else "row",
        )
        examples = [replace(example, index=row + places[example.index]) for example in self.examples(table)]
        return Block(row, examples, len(rows) - len(places))


def _is_empty(cells: Any, column: str) -> bool:
    value = cells.get(column)
    return value is None or (isinstance(value, str) and not says_something(value))
