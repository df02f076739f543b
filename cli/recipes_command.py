"""`soul-lightning recipes list | show | copy`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.recipe_files import packaged_recipe, packaged_recipes
from soul_lightning.cli.terminal import note, output_console
from soul_lightning.exceptions import MisconfigurationError

EPILOG = """\
  list              names, and what each recipe does
  show NAME         its YAML, with comments
  copy NAME [DEST]  a copy to change (NAME.yaml in this folder by default)

Run one:  soul-lightning fit --config NAME      (or another command, as the list says)
"""


def run(args: Sequence[str]) -> int:
    """List, show or copy packaged recipes."""
    parser = CommandParser("recipes", "The recipes that come with the package.", EPILOG)
    parser.add_argument("action", choices=["list", "show", "copy"])
    parser.add_argument("name", nargs="?", help="the recipe's name")
    parser.add_argument("destination", nargs="?", help="file or folder to copy to")
    options = parser.parse_args(args)
    if options.action == "list":
        _list()
        return 0
    if options.name is None:
        raise MisconfigurationError(f"recipes {options.action} needs a name; `soul-lightning recipes list` shows them")
    recipe = packaged_recipe(options.name)
    if options.action == "show":
        sys.stdout.write(recipe.text)
    else:
        _copy(recipe.path, Path(options.destination or ".").expanduser())
    return 0


def _list() -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "command", "what it does"):
        table.add_column(column, overflow="fold")
    for recipe in packaged_recipes().values():
        table.add_row(recipe.name, recipe.command, recipe.title)
    output_console().print(table)


def _copy(source: Path, destination: Path) -> None:
    target = destination / source.name if destination.is_dir() else destination
    if target.exists():
        raise MisconfigurationError(f"{str(target)!r} exists and is not overwritten; name another file")
    if not target.parent.is_dir():
        raise MisconfigurationError(f"the folder {str(target.parent)!r} does not exist; make it first")
    shutil.copyfile(source, target)
    note(f"copied to {target}")
