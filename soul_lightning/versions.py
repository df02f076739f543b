"""Which releases something was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from soul_lightning import __version__


def versions(*packages: str) -> dict[str, str]:
    """The versions of this package, of `packages` as far as they are installed, and of Python."""
    found = {"soul_lightning": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"python": platform.python_version()}
