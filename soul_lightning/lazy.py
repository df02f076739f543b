"""Lazy package attributes (PEP 562), so that `soul-lightning --help` need not load torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Make `package` import its public names when they are first asked for.

    Args:
        package: The package's `__name__`.
        homes: Public names by the module that defines them.

    Returns:
        `__getattr__` of the package.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home_of[name]), name)

    return get
