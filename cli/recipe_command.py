"""What `restor`, `compare` and `requests` share: one recipe, dotted overrides, an output folder, a summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.recipe_files import find_recipe
from soul_lightning.cli.terminal import speaking
from soul_lightning.exceptions import MisconfigurationError

Work = Callable[[dict[str, Any], str, Path | None], tuple[Path, dict[str, Any]]]
"""(settings, what the run is called by, output folder) → the folder and its summary."""
Load = Callable[[], tuple[Work, Callable[[Path], None]]]
"""Imports what is heavy, and gives the work and how its results are shown."""


def run_recipe(
    command: str,
    description: str,
    epilog: str,
    example: str,
    args: Sequence[str],
    load: Load,
    others: Mapping[str, Load] | None = None,
) -> int:
    """Parse a command's own options, take the others as overrides of its recipe, and do the work.

    Args:
        command: The command's name.
        description: What it does.
        epilog: More, after the options.
        example: A packaged recipe of the command.
        args: What stands after the command.
        load: Imports what is heavy; called once the arguments are known to be good.
        others: Commands whose recipes this one runs too, each with its `load`.

    Raises:
        MisconfigurationError: An argument is missing, unknown or wrong.
    """
    parser = CommandParser(command, description, epilog)
    parser.add_argument("-c", "--config", metavar="NAME|FILE", help="a packaged recipe's name or a YAML file")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="the output folder (default: runs/<recipe>/<time>); that of an earlier run is continued",
    )  # fmt: skip
    parser.add_modes()
    options, overrides = parser.parse_known_args(args)
    if options.config is None:
        raise MisconfigurationError(
            f"{command} needs --config NAME or FILE, as in --config {example}; `soul-lightning recipes list` shows all"
        )
    recipe = find_recipe(options.config)
    if others and recipe.command in others:
        load = others[recipe.command]
    else:
        recipe.require(command)

    from soul_lightning.cli.stages import override, read_yaml

    settings = override(read_yaml(recipe.text, str(recipe.path)), overrides)
    work, show = load()
    with speaking(command, parser.mode(options)) as speaker:
        folder, summary = work(settings, recipe.name, options.output)
        speaker.close(folder, summary, lambda: show(folder))
    return 0
