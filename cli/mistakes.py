"""From the errors of jsonargparse and lightning to one sentence.

jsonargparse reports a wrong value as a tree: which branch of which union failed for which reason. Its leaves say what
the user can mend, the keys on the way say where.
"""

from __future__ import annotations

import errno
import importlib
import re
import sys
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.hints import library_classes, unaccepted, unrecognized
from soul_lightning.exceptions import MisconfigurationError

ROOMS = (
    "soul_lightning.modules",
    "soul_lightning.objectives",
    "soul_lightning.optim",
    "soul_lightning.callbacks",
    "soul_lightning.datamodules",
)
"""Packages whose classes have short names on the command line."""

_NO_DEVICE = re.compile(r"No supported gpu backend|accelerator is not available")
_NO_VALUE = re.compile(r"argument (\S+): expected one argument")
_OF_ARGUMENTS = ("Does not validate", "Problem with given class_path", "Parser key")
"""How reports of jsonargparse begin."""
_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_CLASS = re.compile(r"Expected a dot import path string: (\S+)")
_TYPE = re.compile(r"Expected an? (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[([^]]*)\])(?:\. Got value: (.*))?")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed, denied by .* denylist")
_NOISE = (
    "Does not validate",
    "Subtypes:",
    "Errors:",
    "Given value",
    "Problem with given class_path",
    "Expected a path",
)
_CLOSED = (errno.EACCES, errno.EPERM)
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, *_CLOSED)
_OTHER_BRANCHES = ("Expected a <class 'NoneType'>", "Import path ")
"""Why a value is not what else it could have been: said only where nothing else is."""


def import_rooms() -> list[str]:
    """Import every public class, so that short names resolve; returns their names."""
    # PEFT imports bitsandbytes where it is installed, whose AdamW, SGD or Lion would make these names ambiguous from
    # then on. Hidden from the search for short names, they can still be given by import path.
    foreign: Any = sys.modules.get("bitsandbytes.optim.optimizer")
    if foreign is not None:
        foreign.Optimizer8bit.__subclasses__ = list
    names: list[str] = []
    for room in ROOMS:
        package = importlib.import_module(room)
        public = list(getattr(package, "__all__", ()))
        for name in public:
            getattr(package, name)
        names += public
    return names


@contextmanager
def as_sentences() -> Iterator[None]:
    """Turn what a user can mend, and lightning or jsonargparse found, into a `MisconfigurationError`.

    A `MisconfigurationError` that jsonargparse wrapped while it built an object comes out as it was.
    """
    try:
        yield
    except MisconfigurationError:
        raise
    except ArgumentError as error:
        raise _inner(error) or MisconfigurationError(sentence(str(error))) from error
    except OSError as error:
        reason = unwritable(error)
        if reason is None:
            raise
        raise MisconfigurationError(f"{reason}; mend that, or choose another folder") from error
    except MisconfigurationException as error:
        said = " ".join(str(error).split()).rstrip(".!")
        if _NO_DEVICE.search(said):
            said = f"trainer.accelerator: {said.partition('. ')[0]}; set it to auto, or to cpu"
        raise MisconfigurationError(said) from error
    except ValueError as error:
        inner = _inner(error)
        if inner is None and str(error).startswith(_OF_ARGUMENTS):  # what a class says of what it was given
            inner = MisconfigurationError(sentence(str(error)))
        if inner is None:
            raise
        raise inner from error


def unwritable(error: OSError) -> str | None:
    """Which file a full disk or a closed folder keeps from being written, in words; none where it is another error."""
    if error.errno not in _UNWRITABLE:
        return None
    verb = "accessed" if error.errno in _CLOSED else "written"
    return f"{error.filename or 'a file'} cannot be {verb}: {error.strerror}"


def sentence(report: str) -> str:
    """The report of jsonargparse in one sentence.

    Args:
        report: Its message, often of many lines.
    """
    if report.startswith("Problems parsing config"):
        return " ".join(report.split())
    valueless = _NO_VALUE.fullmatch(report)
    whole = f"{valueless[1]} needs a value" if valueless else unrecognized(report)
    if whole is not None:
        return whole
    keys: list[str] = []
    reasons: list[str] = []
    value: str | None = None
    for line in (line.strip().removeprefix("- ").strip() for line in report.splitlines()):
        key = _KEY.search(line)
        if key:
            keys.append(key[1])
            line = line[key.end() :]
        if line.startswith("Given value: ") and value is None:
            value = line.removeprefix("Given value: ").partition(". Got value: Namespace(")[0]
        if line and not line.startswith(_NOISE) and line not in reasons:
            reasons.append(line)
    telling = [reason for reason in reasons if not reason.startswith(_OTHER_BRANCHES)]
    reasons = telling or [reason for reason in reasons if reason.startswith("Import path ")] or reasons
    reason = unaccepted(report) or (_reason(reasons, value) if reasons else " ".join(report.split()))
    where = ".".join(keys)
    return (f"{where}: {reason}" if where else reason).rstrip(".")


def _reason(reasons: list[str], value: str | None) -> str:
    denied = next((found for found in map(_DENIED.search, reasons) if found), None)
    if denied:
        return (
            f"a recipe may not name {denied[1]!r}, which runs code or touches files; name a class of this package or "
            f"of your own"
        )
    missing = next((reason for reason in reasons if reason.startswith("Requirement ")), None)
    if missing:
        return missing[:1].lower() + missing[1:]
    typed = [found for found in map(_TYPE.fullmatch, reasons) if found]
    unknown = next((found for found in map(_CLASS.match, reasons) if found), None)
    # Where a number may also be an object that gives it, what begins like no class was meant to be a number.
    if unknown and (unknown[1][:1].isupper() or not any(found[1] in ("int", "float") for found in typed)):
        hint = "" if "." in unknown[1] else nearest(unknown[1], [*import_rooms(), *library_classes()])
        return f"there is no class {unknown[1]!r}{hint}; give a short name or an import path"
    if not typed:
        said = "; ".join(reason[:1].lower() + reason[1:] for reason in reasons)
        absent = any(reason.startswith("No module named") for reason in reasons)
        return f"{said}; check the import path, which may begin in the folder of the command" if absent else said
    # An `expected` inside of a class says more than those of the unions around it, which only repeat what was given.
    expected = " or ".join(dict.fromkeys(found[1] or f"one of {found[2]}" for found in typed))
    got = next((found[3] for found in typed if found[3] is not None), value)
    return f"expected {expected}" + (f", got {got}" if got is not None and "NestedArg(" not in got else "")


def _inner(error: BaseException) -> MisconfigurationError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MisconfigurationError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
