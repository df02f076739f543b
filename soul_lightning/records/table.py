"""Rows with columns: what a cell must hold, and a sentence with its place where it does not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeGuard

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.text_files import says_something

TEXT_COLUMN = "text"
"""The one column of a plain text file."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_COLUMNS_NAMED = 20

Row: TypeAlias = Mapping[str, Any]
"""Cells by column."""
NumberedRow: TypeAlias = tuple[int, Row]
"""A row with its place in the file, from 1: the line where it begins, or in JSON lists and Parquet its number."""


@dataclass(frozen=True)
class RecordTable:
    """Rows as they were read.

    Attributes:
        name: What messages call the source: its absolute path, or the data set's name.
        rows: One mapping a row, from column to value.
        numbers: Where each row stands in the source, from 1.
        unit: What `numbers` count: lines or rows.
    """

    name: str
    rows: Sequence[Row]
    numbers: Sequence[int]
    unit: str = "row"

    @property
    def columns(self) -> list[str]:
        """Every column that a row has, in the order of their first appearance."""
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def flat(self) -> RecordTable:
        """The same rows with the fields of nested columns as columns of their own, named `column.field`."""
        return replace(self, rows=[_flat(row) for row in self.rows])

    def values(self, column: str) -> list[Any]:
        """The cells of a column as they are; `None` where a row lacks it.

        Raises:
            MisconfigurationError: There is no such column.
        """
        self._check_column(column)
        return [row.get(column) for row in self.rows]

    def texts(self, column: str) -> list[str]:
        """The texts of a column that every row must fill.

        Raises:
            MisconfigurationError: There is no such column, or rows hold something else than text in it.
        """
        values = self.values(column)
        bad = [place for place, value in enumerate(values) if not (_is_text(value) and says_something(value))]
        if bad:
            found = values[bad[0]]
            what = "nothing" if found is None or found == "" else f"{found!r:.40}"
            raise MisconfigurationError(
                f"{len(bad)} of {len(values)} rows of {self.name} hold no text in the column {column!r}, first "
                f"{self.unit} {self.numbers[bad[0]]} with {what}; write text there, or leave the rows out"
            )
        return [str(value) for value in values]

    def text_lists(self, column: str) -> list[tuple[str, ...]]:
        """The lists of texts of a column that every row must fill with at least one.

        Raises:
            MisconfigurationError: There is no such column, or rows hold something else than texts in a list in it.
        """
        values = self.values(column)
        for number, value in zip(self.numbers, values, strict=True):
            is_list = isinstance(value, list) and value
            if not (is_list and all(_is_text(text) and says_something(text) for text in value)):
                raise MisconfigurationError(
                    f"{self.unit} {number} of {self.name} holds {value!r:.40} in the column {column!r}, not a list of "
                    f'texts; write ["…", "…"]'
                )
        return [tuple(value) for value in values]

    def optional_texts(self, column: str | None) -> list[str | None]:
        """The texts of a column whose cells may be empty; `None` where they are, or where no column is named.

        Raises:
            MisconfigurationError: There is no such column, or rows hold something else than text in it.
        """
        if column is None:
            return [None] * len(self.rows)
        values = self.values(column)
        bad = [place for place, value in enumerate(values) if not (value is None or _is_text(value))]
        if bad:
            raise MisconfigurationError(
                f"{len(bad)} of {len(values)} rows of {self.name} hold something else than text in the column "
                f"{column!r}, first {self.unit} {self.numbers[bad[0]]} with {values[bad[0]]!r:.40}; write them as text"
            )
        return [value if value and says_something(value) else None for value in values]

    def _check_column(self, column: str) -> None:
        columns = self.columns
        if self.rows and column not in columns:
            near = difflib.get_close_matches(column, columns, n=1, cutoff=0.5)
            guess = f"; did you mean {near[0]!r}?" if near else "; name one of them"
            named = ", ".join(map(repr, columns[:_MOST_COLUMNS_NAMED])) or "no columns"
            others = len(columns) - _MOST_COLUMNS_NAMED
            more = f" and {others} more" if others > 0 else ""
            raise MisconfigurationError(f"there is no column {column!r} in {self.name}, which has {named}{more}{guess}")


def _flat(row: Row) -> Row:
    flat: dict[str, Any] = {}
    for column, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{column}.{field}": inner for field, inner in value.items()}
        else:
            flat[column] = value
    return flat


def _is_text(value: object) -> TypeGuard[str]:
    """Whether a tokenizer takes `value`: a string without lone surrogates, which JSON can smuggle in."""
    return isinstance(value, str) and _LONE_SURROGATE.search(value) is None
