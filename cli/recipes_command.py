"""`soul-lightning recipes list | show | copy`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from soul_lightning.cli.arguments import CommandParser, nearest
from soul_lightning.cli.recipe_files import (
    Recipe,
    packaged_layers,
    packaged_recipe,
    packaged_recipes,
    packaged_tasks,
)
from soul_lightning.cli.terminal import note, output_console
from soul_lightning.exceptions import MisconfigurationError

EPILOG = """\
  list              names, and what each recipe does
  list TASK         the methods of a task
  show NAME         its YAML, with comments, and in brackets the layer that each part is from
  copy NAME [DEST]  a copy to change (in this folder by default), its layers written out

Run one:  soul-lightning fit --config NAME      (or another command, as the list says)
Put one together:  soul-lightning fit --config model/smollm2 --config data/tofu-smollm2 \\
                       --config objective/npo --config optimizer/sophia-smollm2
"""
COMMANDS = ("fit", "restor", "compare", "requests", "audit")
_COMMAND_AT_END = re.compile(r" \(\w+\)\.?$")


def run(args: Sequence[str]) -> int:
    """List, show or copy packaged recipes."""
    parser = CommandParser("recipes", "The recipes that come with the package.", EPILOG)
    parser.add_argument("action", choices=["list", "show", "copy"])
    parser.add_argument("name", nargs="?", help="the recipe's name, TASK/METHOD, or a layer's")
    parser.add_argument("destination", nargs="?", help="file or folder to copy to")
    options = parser.parse_args(args)
    if options.action == "list":
        _list_task(options.name) if options.name else _list()
        return 0
    if options.name is None:
        raise MisconfigurationError(f"recipes {options.action} needs a name; `soul-lightning recipes list` shows them")
    recipe = packaged_recipe(options.name)
    if options.action == "show":
        sys.stdout.write(recipe.composed(origins=True) if recipe.is_layered else recipe.text)
    else:
        _copy(recipe, Path(options.destination or ".").expanduser())
    return 0


def _list() -> None:
    console = output_console()
    whole = [recipe for recipe in packaged_recipes().values() if recipe.method is None]
    commands = {recipe.name: recipe.command for recipe in whole}
    for command in (name for name in COMMANDS if name in commands.values()):
        console.print(f"soul-lightning {command} --config …", highlight=False)
        _print((recipe.name, recipe.title) for recipe in whole if commands[recipe.name] == command)
    console.print(
        "soul-lightning fit --config TASK/METHOD, such as tofu/npo-sophia (`restor` for\n"
        "behavior and restor); `soul-lightning recipes list TASK` has the methods",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    _print((name, methods[0].title) for name, methods in packaged_tasks().items())
    console.print("Layers that recipes stand on, also for several --config", highlight=False)
    kinds: dict[str, list[str]] = {}
    for name in packaged_layers():
        kinds.setdefault(name.partition("/")[0] + "/", []).append(name.partition("/")[2])
    _print((kind, " ".join(names)) for kind, names in kinds.items())


def _list_task(task: str) -> None:
    tasks = packaged_tasks()
    if task not in tasks:
        raise MisconfigurationError(
            f"there is no task {task!r}{nearest(task, tasks)}; the tasks are {', '.join(tasks)}"
        )
    methods = tasks[task]
    output_console().print(f"soul-lightning {methods[0].command} --config …", highlight=False)
    _print((recipe.name, recipe.note) for recipe in methods)


def _print(rows: Iterable[tuple[str, str]]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, what in rows:
        table.add_row(f"  {name}", _COMMAND_AT_END.sub("", what))
    output_console().print(table)
    output_console().print()


def _copy(recipe: Recipe, destination: Path) -> None:
    target = destination / f"{recipe.name.replace('/', '-')}.yaml" if destination.is_dir() else destination
    if target.exists():
        raise MisconfigurationError(f"{str(target)!r} exists and is not overwritten; name another file")
    if not target.parent.is_dir():
        raise MisconfigurationError(f"the folder {str(target.parent)!r} does not exist; make it first")
    target.write_text(recipe.text, encoding="utf-8")
    note(f"copied to {target}")
