"""What a user may have meant by a name that nobody knows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.recipe_files import packaged_recipes

OPTIONS = (
    "config", "model", "data", "trainer", "checkpoint", "ckpt_path", "seed_everything", "network", "export", "output",
    "quiet", "json", "jsonl", "debug", "help", "help-all", "print_config", "minutes", "reference", "original", "seed",
)  # fmt: skip
"""Of the commands that are built on `fit`, without their dashes and what stands behind a dot."""
LIBRARIES = ("lightning.pytorch.callbacks", "lightning.pytorch.loggers", "torch.optim")
"""Their classes have short names, too."""
_OF_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_UNACCEPTED = re.compile(r"(?:Group '(?P<group>\w+)' does not accept o|O)ption '(?P<option>[^']+)'")
_UNRECOGNIZED = re.compile(r"unrecognized arguments: (?P<first>\S+)")


def library_classes() -> list[str]:
    """Names of classes that no package of this project has."""
    return [name for library in LIBRARIES for name in getattr(import_module(library), "__all__", ())]


def unaccepted(report: str) -> str | None:
    """A sentence for an option that its class or group does not have; none where a report is about something else.

    Args:
        report: Of jsonargparse; the class that is spoken of is the last one named before the option.
    """
    found = _UNACCEPTED.search(report)
    if found is None:
        return None
    option, group = found["option"], found["group"]
    classes = _OF_CLASS.findall(report[: found.start()])
    first = option.partition(".")[0]
    if not classes and not group:
        return f"there is no key {first!r}{nearest(first, OPTIONS)}"
    known = parameters(classes[-1]) if classes else parameters(Trainer) if group == "trainer" else ()
    where = f"{group}: " if group else ""
    return f"{where}option {option!r} is not accepted{nearest(first, known)}"


def unrecognized(report: str) -> str | None:
    """A sentence for an argument that no command knows; none where a report is about something else."""
    found = _UNRECOGNIZED.match(report)
    if found is None:
        return None
    first = found["first"]
    if not first.startswith("-"):
        meant = first in packaged_recipes() or Path(first).is_file()
        hint = f" (did you mean --config {first}?)" if meant else ""
        return f"{first!r} stands where an option is expected{hint}; see the command with --help"
    name = first.lstrip("-").partition("=")[0].partition(".")[0]
    if name in OPTIONS:
        return f"there is no option {first.partition('=')[0]} of this command; see it with --help"
    alike = nearest(name, OPTIONS).replace("mean ", "mean --").replace(" or ", " or --")
    return f"there is no option {first.partition('=')[0]}{alike}; see the command with --help"


def parameters(source: str | type) -> Iterable[str]:
    """Names of what a class is made from, its bases' included, for a class may hand on what it does not name.

    Args:
        source: The class, or the import path of a class or a function.
    """
    found: Any = source
    if isinstance(source, str):
        module, _, name = source.rpartition(".")
        found = getattr(import_module(module), name)
    bases = found.__mro__[:-1] if isinstance(found, type) else (found,)
    return dict.fromkeys(name for base in bases for name in inspect.signature(base).parameters)
