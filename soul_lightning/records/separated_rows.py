"""Rows out of values with separators, in the way of CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.table import NumberedRow
from soul_lightning.records.text_files import text_lines

_LONGEST_CELL = 2**31 - 1  # characters; the usual limit, 128 KiB, is shorter than many documents
_SEPARATORS = ",;\t|"


def separated_rows(path: Path, separator: str) -> Iterator[NumberedRow]:
    """Rows under a header, each with the line where it begins; empty lines are left out.

    Raises:
        MisconfigurationError: The file cannot be read, its quotation marks do not match, or a row does not fit the
            header.
    """
    lines = _cells(path, separator)
    header_line, header = next(lines, (1, []))
    twice = next((column for column in header if header.count(column) > 1), None)
    if twice is not None:
        raise MisconfigurationError(
            f"{path}:{header_line} names the column {twice!r} twice; give every column a name of its own"
        )
    if len(header) == 1 and any(other in header[0] for other in _SEPARATORS):
        raise MisconfigurationError(
            f"{path}:{header_line} names one column, {header[0]!r:.60}, for {separator!r} does not separate its cells; "
            f"write commas between them, or tabs in a file called .tsv"
        )
    for line, cells in lines:
        if len(cells) != len(header):
            raise MisconfigurationError(
                f"{path}:{line} begins a row of {len(cells)} cells, and the header names {len(header)} columns; put "
                f"texts with separators or line breaks in quotation marks"
            )
        yield line, dict(zip(header, cells, strict=True))


def _cells(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of cells, each with the line where it begins; empty lines are left out."""
    reader = csv.reader(text_lines(path, keep_line_ends=True), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        usual = csv.field_size_limit(_LONGEST_CELL)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise MisconfigurationError(
                f"{path}:{line} begins a row that is not valid CSV ({error}); mend its quotation marks"
            ) from error
        finally:
            csv.field_size_limit(usual)
        if cells is None:
            return
        if cells:
            yield line, cells
