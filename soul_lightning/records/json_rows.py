"""Rows out of JSON: one object a line, or one list of objects; what is wrong with a row has its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.table import NumberedRow
from soul_lightning.records.text_files import read_text, text_lines

_NAMES = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
_SPACE = re.compile(r"[ \t\n\r]*")


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        MisconfigurationError: It cannot be read, or is not JSON; with file and line.
    """
    return _decoded(read_text(path), path, first_line=1)


def json_line_rows(path: Path) -> Iterator[NumberedRow]:
    """One object a line, each with its line; empty lines are left out.

    Raises:
        MisconfigurationError: The file cannot be read, or a line is something else.
    """
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            raise MisconfigurationError(
                f"{path}:{number} begins a list, not an object with columns; write one {{…}} a line, or call a file "
                f"that is one list .json"
            )
        row = _decoded(line.rstrip(), path, number)
        if not isinstance(row, dict):
            raise MisconfigurationError(
                f"{path}:{number} holds {_NAMES[type(row)]}, not an object with columns; write one {{…}} a line"
            )
        yield number, row


def json_rows(path: Path) -> Iterator[NumberedRow]:
    """One list of objects, or one object a line, as many published .json files have it; numbered from 1.

    Raises:
        MisconfigurationError: The file cannot be read, or is something else.
    """
    text = read_text(path)
    if text.lstrip().startswith("["):
        yield from _list_rows(text, path)
        return
    if "\n" in text.strip() and _is_object(text):
        raise MisconfigurationError(
            f"{path}:1 begins one object over several lines, not a list of objects; write [{{…}}, …], or one {{…}} a "
            f"line"
        )
    yield from enumerate((row for _, row in json_line_rows(path)), start=1)


def _list_rows(text: str, path: Path) -> Iterator[NumberedRow]:
    """Each row is decoded by itself, so that what is wrong with one has a place."""
    place = _after_space(text, text.index("[") + 1)
    number = 0
    while number or not text.startswith("]", place):
        number += 1
        try:
            row, end = _DECODER.raw_decode(text, place)
            after = _after_space(text, end)
            if not text.startswith((",", "]"), after):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, after)
        except json.JSONDecodeError as error:
            raise _no_json(error, path, 1) from error
        except (ValueError, RecursionError) as error:
            raise _no_json(error, path, text.count("\n", 0, place) + 1) from error
        if not isinstance(row, dict):
            raise MisconfigurationError(f"row {number} of {path} is no object with columns; write [{{…}}, …]")
        yield number, row
        place = _after_space(text, after + 1)
        if text[after] == "]":
            if place < len(text):
                raise _no_json(json.JSONDecodeError("Extra data", text, place), path, 1)
            return


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _is_object(text: str) -> bool:
    try:
        return isinstance(_DECODER.decode(text), dict)
    except (ValueError, RecursionError):
        return False


def _decoded(text: str, path: Path, first_line: int) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _no_json(error, path, first_line) from error


def _no_json(error: Exception, path: Path, first_line: int) -> MisconfigurationError:
    """The sentence, with the line in the file that the decoder stumbled at."""
    line, reason = first_line, str(error).partition(";")[0]
    if isinstance(error, json.JSONDecodeError):
        line += error.lineno - 1
        reason = "it ends too early" if error.pos >= len(error.doc) else f"{error.msg} at character {error.colno}"
    return MisconfigurationError(f"{path}:{line} is not valid JSON ({reason}); mend that line, or fetch the file again")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object names {twice!r} twice")
    return found


def _constant(name: str) -> float | None:
    """`NaN` is no JSON; pandas writes it for an empty cell."""
    return None if name == "NaN" else float(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
