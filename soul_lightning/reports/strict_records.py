"""Records out of JSON, of which every key and type is known: what is missing, too much or of another type is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from soul_lightning.exceptions import MisconfigurationError

T = TypeVar("T")
Kind = type | tuple[type, ...]
NUMBER: Kind = (float, int, type(None))
"""A number, or none where it has no meaning."""


def read_fields(record: Any, what: str, /, **kinds: Kind) -> dict[str, Any]:
    """A record's fields, in the order of `kinds`.

    Args:
        record: What JSON gave.
        what: What it should be, for the error.
        **kinds: The type, or the types, of each field; a boolean is no number.

    Raises:
        MisconfigurationError: It is no mapping with exactly these keys and types.
    """
    if not isinstance(record, Mapping):
        raise MisconfigurationError(f"{what} is {record!r:.40}, not a mapping; write the file again")
    odd = sorted(set(record) ^ set(kinds))
    if odd:
        state = "unknown" if odd[0] in record else "missing"
        raise MisconfigurationError(f"{what} has the fields {', '.join(record)}, {odd[0]!r} is {state}; write it again")
    for name, kind in kinds.items():
        value = record[name]
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in allowed):
            raise MisconfigurationError(f"{what} has {value!r:.40} as its {name!r}, of another type; write it again")
    return {name: record[name] for name in kinds}


def read_list(values: Any, read: Callable[[Any], T]) -> tuple[T, ...]:
    """Each value of a list."""
    return tuple(read(value) for value in values)


def read_mapping(values: Mapping[str, Any], read: Callable[[Any], T]) -> dict[str, T]:
    """Each value of a mapping, whose keys are texts in JSON."""
    return {name: read(value) for name, value in values.items()}


def read_numbers(values: list[Any], name: str) -> list[float | None]:
    """Numbers and none.

    Raises:
        MisconfigurationError: There is something else among them.
    """
    return [read_fields({name: value}, "a list of numbers", **{name: NUMBER})[name] for value in values]
