"""Rows out of the user's own files: JSONL, JSON, CSV, Parquet, plain text, or a Hugging Face data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.readers import COUNTED_BY_ROW, LAZY_READERS, PLAIN_TEXT, READERS, file_kind
from soul_lightning.records.table import TEXT_COLUMN, RecordTable
from soul_lightning.records.text_files import local_path


@dataclass(frozen=True)
class RecordSource:
    """Where rows come from.

    Attributes:
        path: A file (.jsonl, .ndjson, .json, .csv, .tsv, .parquet, or .txt with an empty line between texts; all but
            Parquet also packed, as .jsonl.gz), or the name of a Hugging Face data set or the folder of a copy of it.
        subset: Configuration of a Hugging Face data set.
        split: Split of a Hugging Face data set.
        text_column: Read this source as plain text from this column, whatever columns the other sources have.
        first_rows: Read so many rows from the beginning; all if none is given. A Hugging Face data set is then
            streamed: no more of it is downloaded than is read.
        streamed: Read rows as they are needed and keep none, for retain sets that memory or disk cannot hold. A file
            may be of any kind but .json; a Hugging Face data set is never downloaded whole.
        shuffle_rows: A streamed source is shuffled among so many neighbouring rows, which stay in memory.
    """

    path: str
    subset: str | None = None
    split: str = "train"
    text_column: str | None = None
    first_rows: int | None = None
    streamed: bool = False
    shuffle_rows: int = 1000


def check_source(source: RecordSource, role: str) -> None:
    """Refuse, before anything is read, a source that cannot be.

    Args:
        source: The source.
        role: What it is called in the message.

    Raises:
        MisconfigurationError: The path is empty, the file is missing, its kind is unknown or cannot be streamed, or
            `first_rows` or `shuffle_rows` is below 1.
    """
    if source.first_rows is not None and source.first_rows < 1:
        raise MisconfigurationError(f"{role}: first_rows must be >= 1, got {source.first_rows}; leave it out for all")
    if source.shuffle_rows < 1:
        raise MisconfigurationError(
            f"{role}: shuffle_rows must be >= 1, got {source.shuffle_rows}; 1 keeps the rows in their order"
        )
    if not source.path.strip():
        raise MisconfigurationError(f"{role} is an empty path; give a file or the name of a Hugging Face data set")
    path = local_path(source.path)
    kind = file_kind(path)
    if path.is_file():
        if kind not in READERS:
            raise MisconfigurationError(
                f"{role}: {path.absolute()} is of unknown kind {path.suffix!r}; the kinds are {', '.join(READERS)}"
            )
        if source.streamed and kind not in LAZY_READERS:
            raise MisconfigurationError(
                f"{role}: {path.absolute()} cannot be streamed, only {', '.join(LAZY_READERS)} can; write it as "
                f".jsonl, or leave streamed out"
            )
        return
    looks_like_path = path.is_absolute() or source.path.startswith((".", "~")) or source.path.count("/") > 1
    if not path.is_dir() and (looks_like_path or kind in READERS):
        raise MisconfigurationError(f"{role}: there is no file {path.absolute()}; check the path")


def text_column_of(source: RecordSource, otherwise: str | None) -> str | None:
    """The column that holds a source's plain texts: its own, that of a .txt file, or the one of all other sources."""
    return source.text_column or (TEXT_COLUMN if file_kind(Path(source.path)) == PLAIN_TEXT else otherwise)


def read_records(source: RecordSource, role: str, way_out: str | None = None) -> RecordTable:
    """Read every row.

    Args:
        source: The source.
        role: What it is called in messages, usually the argument that names it (`forget`, `retain`, …).
        way_out: What to do where a Hugging Face data set cannot be loaded; to set `role` to a local file if none is
            given.

    Raises:
        MisconfigurationError: It cannot be read, with its place and the reason.
    """
    check_source(source, role)
    if source.streamed:
        raise MisconfigurationError(
            f"{role}: {source.path} is to be streamed, and {role} rows are kept in memory; leave streamed out, or take "
            f"the first rows alone with first_rows"
        )
    path = local_path(source.path).absolute()
    if not path.is_file():
        with reported(source, role, way_out):
            return _from_data_set(source)
    kind = file_kind(path)
    numbered = list(islice(READERS[kind](path), source.first_rows))
    return RecordTable(
        str(path),
        [row for _, row in numbered],
        [number for number, _ in numbered],
        "row" if kind in COUNTED_BY_ROW else "line",
    )


@contextmanager
def reported(source: RecordSource, role: str, way_out: str | None = None) -> Iterator[None]:
    """Say in one sentence why a Hugging Face data set, or the folder of a copy, cannot be read.

    What is wrong with a file its reader says.

    Args:
        source: The source that is read inside.
        role: What it is called in messages, usually the argument that names it.
        way_out: What to do then; to set `role` to a local file if none is given.

    Raises:
        MisconfigurationError: It cannot be read.
    """
    path = local_path(source.path)
    if path.is_file():
        yield
        return
    import datasets

    try:
        yield
    except MisconfigurationError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError) as error:
        generated = isinstance(error, datasets.exceptions.DatasetGenerationError)  # its cause says what is wrong
        found = str(error.__cause__ if generated and error.__cause__ else error)
        reason = found.strip().split("\n")[0][:200].rstrip(".")
        which = f"loaded with subset {source.subset!r} and split {source.split!r} ({reason})"
        what = (
            f"the folder {path.absolute()} holds nothing that can be"
            if path.is_dir()
            else f"{source.path!r} is no file ({path.absolute()}) and no Hugging Face data set that can be"
        )
        usual = f"set {role} to a local file (.jsonl, .csv, .parquet, …) or to the folder of a copy, or check the name"
        raise MisconfigurationError(f"{role}: {what} {which}; {way_out or usual}") from error


def _from_data_set(source: RecordSource) -> RecordTable:
    if source.first_rows is None:
        rows = open_data_set(source).to_list()
    else:
        rows = list(islice(open_data_set(source, streaming=True), source.first_rows))  # take() reads into the next file
    return RecordTable(data_set_name(source), rows, range(1, len(rows) + 1))


def open_data_set(source: RecordSource, *, streaming: bool = False) -> Any:
    """A Hugging Face data set, or the folder of a copy, as the library opens it.

    Args:
        source: The data set.
        streaming: Download nothing but what is read.

    Raises:
        MisconfigurationError: The README.md of a folder names files that do not lie in it.
    """
    import datasets

    path = local_path(source.path)
    name = source.path
    if path.is_dir():
        name = str(path)
        _refuse_files_elsewhere(path, datasets.load_dataset_builder(name, source.subset).config.data_files or {})
    return datasets.load_dataset(name, source.subset, split=source.split, streaming=streaming)


def _refuse_files_elsewhere(folder: Path, files: Mapping[str, Sequence[str]]) -> None:
    """What a folder says of itself must not have a file read that its owner never meant to give."""
    for path in (path for split in files.values() for path in split):
        if "://" in path or not Path(os.path.abspath(path)).is_relative_to(folder.absolute()):
            raise MisconfigurationError(
                f"the folder {folder.absolute()} names the data file {path!r}, which does not lie in it; mend the "
                f"data_files of its README.md, or name the file itself"
            )


def data_set_name(source: RecordSource) -> str:
    """What messages call a source: a file's absolute path; a data set with its subset and split."""
    path = local_path(source.path)
    name = str(path.absolute()) if path.exists() else source.path
    return name if path.is_file() else ":".join(part for part in (name, source.subset, source.split) if part)
