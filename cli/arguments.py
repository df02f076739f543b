"""The commands' own arguments; argparse only, so that `--help` needs neither torch nor lightning."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import NoReturn

from soul_lightning.exceptions import MisconfigurationError


class CommandParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one sentence and whose help keeps its line breaks.

    Args:
        command: The command's name.
        description: What it does.
        epilog: More, after the options.
    """

    def __init__(self, command: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"soul-lightning {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        # main() takes --debug out of the arguments; it stands here for the help text.
        self.add_argument("--debug", action="store_true", help="a traceback with every error")

    def add_json(self) -> None:
        """Add `--json`."""
        self.add_argument("--json", action="store_true", help="print the summary as JSON and nothing else to stdout")

    def error(self, message: str) -> NoReturn:
        """One sentence in place of usage and exit."""
        raise MisconfigurationError(f"{message}; see {self.prog} --help")


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)` with the known words that look like `word`; empty if none does."""
    found = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def boolean(text: str) -> bool:
    """`true` or `false`, for an option that takes either."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return text.lower() == "true"
