"""Files and folders that are either whole or not there, whatever ends the process and whenever it does."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


@contextmanager
def replaced_when_written(path: Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`, which takes its place when the block ends without an error.

    A run that is interrupted leaves the old file, or none, and never half of a new one. The bytes are on the disk
    before the name is, so that this holds for a machine that loses power, too.

    Args:
        path: The file to make or to replace; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the name that somebody knows
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_replaced_when_written(folder: Path) -> Iterator[Path]:
    """The same for a folder and all that is in it.

    No file system swaps two folders in one step for us: a process that is killed between the two renames at the end
    leaves none, and never a mixture.

    Args:
        folder: The folder to make or to replace; those above it are made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _temporary(folder), _temporary(folder)
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        if folder.is_dir():
            os.replace(folder, old)
        try:
            os.replace(temporary, folder)
        except OSError:
            if old.is_dir():
                os.replace(old, folder)
            raise
        _sync(folder.parent)
    finally:
        for path in (temporary, old):
            shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(*folders: Path) -> None:
    """Remove what killed processes left of files and folders that they had not finished.

    Args:
        *folders: Where to look, and no deeper; nobody may be writing there.
    """
    for path in [path for folder in folders for path in folder.glob(".*.tmp") if _TEMPORARY.fullmatch(path.name)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _temporary(path: Path) -> Path:
    # Processes on several machines, or in several containers, may share a folder and a number.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _sync(path: Path) -> None:
    """Wait until the disk has it."""
    if path.is_dir() and os.name == "nt":
        return  # Windows has no handle on a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
