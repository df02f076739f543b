"""The folder that a run leaves behind, written so that nothing half-made stays in it.

```
runs/<recipe>/<time>/
  config.yaml      the whole resolved configuration
  events.out.…     TensorBoard
  checkpoints/     last.ckpt, from which an interrupted run goes on; a complete run keeps none
  rows/            one file a measurement, one row an example
  export/          the final model as a Hugging Face folder
  summary.json     flat metric names and numbers, seed, seconds, versions, hashes; written last
```

This module imports neither torch nor lightning.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.file_names import check_file_name
from soul_lightning.files import replaced_when_written

CONFIG_NAME = "config.yaml"
SUMMARY_NAME = "summary.json"
EXPORT_NAME = "export"
CHECKPOINT_NAME = "checkpoints/last.ckpt"


def new_run_folder(recipe: str, root: Path | None = None) -> Path:
    """The path `<root>/<recipe>/<YYYYmmdd-HHMMSS>` of a run that starts now; nothing is created.

    Args:
        recipe: The recipe's name.
        root: Where runs are kept; `runs` in the working folder if none is given.

    Raises:
        MisconfigurationError: The name, or a part of it between slashes, can name no folder.
    """
    parts = [check_file_name(part, "the recipe's name") for part in recipe.split("/")]
    base = Path(root or "runs", *parts) / datetime.now().strftime("%Y%m%d-%H%M%S")
    path, number = base, 1
    while path.exists():  # two runs within the same second
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def refuse_occupied(folder: Path, otherwise: str = "") -> None:
    """Check that `folder` holds no run.

    Args:
        folder: The run folder to be.
        otherwise: A way out beside another folder, for the end of the message.

    Raises:
        MisconfigurationError: It does, or it is a file.
    """
    refuse_unwritable(folder)
    found = [name for name in (SUMMARY_NAME, CONFIG_NAME) if (folder / name).exists()]
    if found:
        raise MisconfigurationError(
            f"the folder {str(folder)!r} already holds another run ({found[0]}); choose another folder{otherwise}"
        )


def refuse_unwritable(folder: Path) -> None:
    """Check that a run can be written to `folder`, before anything is loaded.

    Raises:
        MisconfigurationError: It is a file, lies below one, or is closed.
    """
    if folder.exists() and not folder.is_dir():
        raise MisconfigurationError(f"the run folder {str(folder)!r} is a file; choose another folder")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "may not be written to" if there.is_dir() else "is a file"
        raise MisconfigurationError(
            f"the run folder {str(folder)!r} cannot be made: {str(there)!r} {reason}; choose another folder"
        )


@contextmanager
def discarded_unless(kept: Callable[[], bool], folder: Path) -> Iterator[Path]:
    """Remove what appears in `folder` inside the block if the block fails before there is anything to keep.

    What was in the folder before stays, and so do folders above it that are not empty.

    Args:
        kept: Asked when the block fails: whether something is worth keeping.
        folder: The run folder; need not exist.
    """
    before = set(folder.iterdir()) if folder.is_dir() else None
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield folder
    except BaseException:
        if not kept() and folder.is_dir():
            for path in set(folder.iterdir()) - (before or set()):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            for path in missing:
                if not any(path.iterdir()):
                    path.rmdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file that is either whole or not there; its folder is made."""
    with replaced_when_written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write `summary.json`; a number that is not finite becomes `null`."""
    write_text(folder / SUMMARY_NAME, strict_json(summary, indent=2) + "\n")


def strict_json(record: Mapping[str, Any], indent: int | None = None) -> str:
    """`record` as strict JSON, in its own order; a number that is not finite becomes `null`.

    Args:
        record: Plain values.
        indent: Spaces a level; none for one line.
    """
    return json.dumps(_finite(record), indent=indent, ensure_ascii=False, allow_nan=False)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a finished run; none where there is no readable one."""
    try:
        summary = json.loads((folder / SUMMARY_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return summary if isinstance(summary, dict) else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
