"""The help of all options, and of a class's: no wider than 100 columns, classes by their short names."""

from __future__ import annotations

import re
import shutil
import textwrap
from argparse import Action
from typing import Any

from jsonargparse import DefaultHelpFormatter
from lightning.pytorch.cli import LightningArgumentParser

MOST_COLUMNS = 100
_CLASSES = re.compile(r"known subclasses: ([^)]*)")
_DEFAULT_TWICE = re.compile(r"\s*Default: ``[^`]*``\.(?= \()")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")
"""Of reStructuredText, in docstrings of lightning: only the name that it ends with says something here."""
_FOR_CLASSES_ONLY = (
    "lightning.pytorch.callbacks.Checkpoint",
    "lightning.pytorch.callbacks.ProgressBar",
    "lightning.pytorch.cli.SaveConfigCallback",
    "soul_lightning.checkpoint_io.",
    "soul_lightning.cli.",
    "soul_lightning.modules.base.",
    "soul_lightning.modules.one_shot.",
    "transformers.modeling_utils.",
)
"""What jsonargparse finds among the classes of an option and nobody would name: bases, and what `fit` adds itself."""


class FitParser(LightningArgumentParser):
    """The parser of `fit`, and of the help of classes, which jsonargparse makes of the same kind."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("prog", "soul-lightning fit")
        settings.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **settings)


class HelpFormatter(DefaultHelpFormatter):
    """Leaves out what is said once for all options: how the help of a class is had, and a usage of a page."""

    def __init__(self, prog: str, **settings: Any) -> None:
        settings["width"] = min(MOST_COLUMNS, shutil.get_terminal_size().columns) - 2
        super().__init__(prog, **settings)  # type: ignore[no-untyped-call]  # jsonargparse has left it untyped

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        """One line, whatever there is."""
        super().add_usage("soul-lightning fit --config NAME|FILE [OPTIONS]", [], [], prefix)

    def start_section(self, heading: str | None) -> None:
        """A heading, often the first sentence of a docstring."""
        wrapped = textwrap.wrap(heading or "", self._width - 1)
        super().start_section("\n".join(wrapped) if heading else heading)

    def add_argument(self, action: Action) -> None:
        """An option, unless it shows the help of another."""
        if not any(option.endswith(".help") for option in action.option_strings):
            super().add_argument(action)

    def _expand_help(self, action: Action) -> str:
        text = super()._expand_help(action)
        text = _ROLE.sub(r"\1", _CLASSES.sub(_short_names, text))
        return _DEFAULT_TWICE.sub("", text).replace("``", "")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """A description, with its line breaks."""
        lines = (textwrap.wrap(line, width, initial_indent=indent) or [""] for line in text.splitlines())
        return "\n".join(part for line in lines for part in line)


def _short_names(found: re.Match[str]) -> str:
    classes = [name.strip() for name in found[1].split(",")]
    names = (name.rpartition(".")[2] for name in classes if not name.startswith(_FOR_CLASSES_ONLY))
    return f"classes: {', '.join(dict.fromkeys(names))}"
