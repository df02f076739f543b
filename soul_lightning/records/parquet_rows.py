"""Rows out of Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.table import NumberedRow, Row


def parquet_rows(path: Path) -> Iterator[NumberedRow]:
    """The rows of a Parquet file, read in groups and numbered from 1; empty cells are `None`.

    Raises:
        MisconfigurationError: It is no Parquet file, names a column twice, or holds bytes that are no text.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise MisconfigurationError(
                    f"{path} names the column {twice!r} twice; give every column a name of its own"
                )
            for batch in file.iter_batches():
                for row in _decoded(batch, path, number):
                    number += 1
                    yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise MisconfigurationError(
            f"{path} is not a valid Parquet file ({reason}); write or fetch it again"
        ) from error


def _decoded(batch: Any, path: Path, before: int) -> list[Row]:
    """The rows of a batch that `before` others precede."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for number, cell in enumerate(column, start=before + 1):
                try:
                    cell.as_py()
                except UnicodeDecodeError as error:
                    raise MisconfigurationError(
                        f"row {number} of {path} holds bytes in the column {name!r} that are not UTF-8 text; write the "
                        f"file again"
                    ) from error
        raise
