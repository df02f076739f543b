"""What an audit keeps in its folder, and by what it knows that models and earlier answers are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from soul_lightning.callbacks.scoring import EVALUATED
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import resolve_source
from soul_lightning.reports.audit import AuditPart
from soul_lightning.reports.audit_files import JSON_NAME
from soul_lightning.run_folder import CONFIG_NAME, refuse_occupied, refuse_unwritable, write_text

PARTS_NAME = "parts"
AUDIT_COMMENT = "# an audit"
"""The first line of the `config.yaml` of an audit."""
_AT_ONCE = 1 << 20


def files_hash(source: str) -> str:
    """A hash of the names and bytes of a model's files, 32 hexadecimal digits; of a hub name, of the name alone.

    Args:
        source: A Hugging Face folder, a hub name, `packaged:NAME`, or the folder of an audit.

    Raises:
        MisconfigurationError: There is no such folder or model.
    """
    found = hashlib.blake2b(digest_size=16)
    folder = Path(source if is_audit(source) else resolve_source(source)).expanduser()
    if not folder.is_dir():
        found.update(source.encode())
        return found.hexdigest()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        found.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_AT_ONCE):
                found.update(block)
    return found.hexdigest()


def is_audit(source: str) -> bool:
    """Whether `source` is the folder of an audit, and no model."""
    return (Path(source).expanduser() / JSON_NAME).is_file()


def rows_or_model(source: str, callback: str) -> str:
    """What a callback compares with: the rows that it wrote in the audit `source`, or the model `source`.

    Args:
        source: A model, or the folder of an audit.
        callback: The callback's name.

    Raises:
        MisconfigurationError: The audit holds no rows of such a callback.
    """
    if not is_audit(source):
        return source
    rows = Path(source).expanduser() / "rows" / f"{callback}_{EVALUATED}.jsonl"
    if not rows.is_file():
        raise MisconfigurationError(
            f"the audit {source!r} of the reference holds no rows of {callback!r}; audit the reference with the same "
            f"configuration, or give the model itself"
        )
    return str(rows)


def refuse_foreign_folder(folder: Path, sources: Iterable[str]) -> None:
    """An output folder may hold an earlier audit, and no other run, and it may not lie in a model's folder.

    Args:
        folder: The output folder.
        sources: The models, whose folders stay as they are.

    Raises:
        MisconfigurationError: It holds another run, or lies where a model does.
    """
    refuse_unwritable(folder)
    for source in sources:
        place = Path(source).expanduser().resolve()
        if place.is_dir() and folder.expanduser().resolve().is_relative_to(place):
            raise MisconfigurationError(
                f"the output folder {str(folder)!r} lies in the folder of the model {source!r}, which stays as it is; "
                f"choose another folder"
            )
    try:
        first = (folder / CONFIG_NAME).read_text(encoding="utf-8").partition("\n")[0]
    except (FileNotFoundError, NotADirectoryError):
        first = None
    if first is None or not first.startswith(AUDIT_COMMENT):
        refuse_occupied(folder)


def write_part(folder: Path, part: AuditPart, part_hash: str) -> None:
    """Keep what a callback found.

    Args:
        folder: Of the audit.
        part: What it found.
        part_hash: Of everything that decides it.
    """
    stored = {"hash": part_hash, "part": part.record()}
    write_text(_file(folder, part.name), json.dumps(stored, ensure_ascii=False, indent=1) + "\n")


def read_part(folder: Path, name: str, part_hash: str) -> AuditPart | None:
    """What a callback found in an earlier audit; none where there was none, or where something decides otherwise now.

    Args:
        folder: Of the audit.
        name: The callback's.
        part_hash: See `write_part`.
    """
    try:
        stored = json.loads(_file(folder, name).read_text(encoding="utf-8"))
        return AuditPart.from_record(stored["part"]) if stored["hash"] == part_hash else None
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError, TypeError, MisconfigurationError):
        return None


def has_parts(folder: Path) -> bool:
    """Whether an audit in this folder has anything that is worth keeping."""
    return (folder / PARTS_NAME).is_dir()


def _file(folder: Path, name: str) -> Path:
    return folder / PARTS_NAME / f"{name}.json"
