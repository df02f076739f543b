"""What a configuration may build: subclasses of the types that the code declares, and nothing else.

jsonargparse holds a `class_path` against the declared type where that is a class. Three doors stay open: a value of
type `Any` or `object`, in which any class may be named; a `Callable`, for which any class with a `__call__` will do;
and a function in place of a class, which is called with arguments of the configuration's choice. They are shut here, on
the parsed configuration, before anything is built.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from soul_lightning.exceptions import MisconfigurationError


def restrict_parsing() -> None:
    """Have jsonargparse refuse, unimported, the standard library's ways to run code, and build nothing in an `Any`.

    Its list of them is in force from here on, for all of the process.
    """
    set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=[])


def refuse_undeclared(parser: argparse.ArgumentParser, config: Namespace) -> None:
    """Check every class that a parsed configuration would have built.

    It must be a subclass of what its place declares, or of what a `Callable` that stands there returns. A function by
    its import path may stand where a `Callable` is declared: it gets its arguments from the code that calls it.

    Args:
        parser: The jsonargparse parser that parsed it.
        config: The configuration; nothing in it is built.

    Raises:
        MisconfigurationError: With the key, what it names, and what may stand there.
    """
    _check_each("", config, _declared(parser), otherwise=Any)


def _declared(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The declared type of every argument, by its dotted name; `Any` where none is known, and no class may stand."""
    actions = [action for action in parser._actions if not action.dest.endswith(".help")]
    return {action.dest: getattr(action, "_typehint", Any) for action in actions}


@cache
def _arguments(of: type) -> dict[str, Any]:
    """The same for what a class takes."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(of, fail_untyped=False)
    return _declared(parser)


def _check(key: str, value: object, declared: Any) -> None:
    if isinstance(value, list | tuple | set):
        for number, inner in enumerate(value):
            _check(f"{key}[{number}]", inner, declared)
    elif isinstance(value, Namespace | Mapping):
        if "class_path" in value:
            _check_class(key, value, declared)
        else:
            records = [each for each in _classes(declared) if dataclasses.is_dataclass(each)]
            types = {name: its_type for record in records for name, its_type in _arguments(record).items()}
            _check_each(key, value, types, otherwise=declared)


def _check_class(key: str, spec: Namespace | Mapping[str, Any], declared: Any) -> None:
    path = spec["class_path"]
    allowed = list(dict.fromkeys(_classes(declared)))
    if not allowed:
        raise MisconfigurationError(
            f"{key}: {path!r} would be built where the code declares no class; give a plain value, or the import path "
            f"of a function where one is called"
        )
    names = " or ".join(each.__name__ for each in allowed)
    found = _named(path)
    if not isinstance(found, type):
        raise MisconfigurationError(f"{key}: {path!r} is no class; name a subclass of {names}")
    if not any(_is_subclass(found, each) for each in allowed):
        raise MisconfigurationError(f"{key}: {path!r} is no subclass of {names}; name one that is")
    _check_each(key, spec.get("init_args") or {}, _arguments(found), otherwise=Any)
    _check_each(key, spec.get("dict_kwargs") or {}, {}, otherwise=Any)


def _check_each(key: str, values: Namespace | Mapping[str, Any], types: Mapping[str, Any], otherwise: Any) -> None:
    """Check the values under `key`; the fields of a dataclass may stand one by one among the types."""
    for name, value in (vars(values) if isinstance(values, Namespace) else values).items():
        place = f"{key}.{name}" if key else name
        fields = {other.removeprefix(f"{name}."): types[other] for other in types if other.startswith(f"{name}.")}
        if fields and isinstance(value, Namespace | Mapping) and "class_path" not in value:
            _check_each(place, value, fields, otherwise=Any)
        else:
            _check(place, value, types.get(name, otherwise))


def _named(path: str) -> object:
    """What stands under a name in a module, which parsing has imported; a method of a class stands in none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


def _classes(declared: Any) -> Iterator[type]:
    """The classes whose subclasses may stand for a type; plain values and containers are none."""
    origin = get_origin(declared)
    if origin is Callable:
        yield from _classes(get_args(declared)[-1] if get_args(declared) else Any)
    elif origin is type or declared is Callable:
        return  # a class itself is asked for, or whatever can be called
    elif isinstance(origin or declared, type) and (origin or declared).__module__.partition(".")[0] not in _PLAIN:
        yield origin or declared
    else:
        for inner in get_args(declared):
            yield from _classes(inner)


_PLAIN = ("builtins", "collections", "jsonargparse", "types", "typing")
"""Packages of values and containers, of unions, and of the parser's own marks."""


def _is_subclass(found: type, declared: type) -> bool:
    try:
        return issubclass(found, declared)
    except TypeError:  # a protocol that cannot be asked: jsonargparse has compared the methods
        return bool(getattr(declared, "_is_protocol", False))
