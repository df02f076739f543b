"""The commands' own arguments; argparse only, so that `--help` needs neither torch nor lightning."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from typing import Literal, NoReturn

from soul_lightning.exceptions import MisconfigurationError

Mode = Literal["text", "quiet", "json", "jsonl"]
"""How a command speaks: to people, or see `MODES`."""
MODES: dict[Mode, str] = {
    "quiet": "say nothing but errors, and at the end where the results are",
    "json": "print the summary as JSON and nothing else to stdout",
    "jsonl": "print what happens to stdout, a JSON object a line (docs/terminal.md), and nothing else",
}


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
        self.add_argument("--json", action="store_true", help=MODES["json"])

    def add_output(self, default: str = "runs/<recipe>/<time>") -> None:
        """Add `--output` for the run folder.

        Args:
            default: Where it is if none is given.
        """
        self.add_argument("--output", metavar="DIR", help=f"the run folder (default: {default})")

    def add_modes(self) -> None:
        """Add `--quiet`, `--json` and `--jsonl`, one of which at most may be given."""
        for mode, what in MODES.items():
            self.add_argument(f"--{mode}", action="store_true", help=what)

    @staticmethod
    def mode(options: argparse.Namespace) -> Mode:
        """The mode that `options` ask for; `text` where they ask for none.

        Raises:
            MisconfigurationError: They ask for several.
        """
        asked: list[Mode] = [mode for mode in MODES if getattr(options, mode)]
        if len(asked) > 1:
            raise MisconfigurationError(f"give one of {', '.join(f'--{mode}' for mode in asked)}")
        return asked[0] if asked else "text"

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
