"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_when_written(path: Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`, which takes its place when the block ends without an error.

    A run that is interrupted leaves the old file, or none, and never half of a new one.

    Args:
        path: The file to make or to replace; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
