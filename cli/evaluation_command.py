"""The arguments of `validate` and `test`; `soul_lightning.cli.evaluating` does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.recipe_files import Recipe, config_arguments, find_recipe, name_of
from soul_lightning.cli.terminal import is_first_process, speaking
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.run_folder import CONFIG_NAME, EXPORT_NAME, new_run_folder

if TYPE_CHECKING:
    from soul_lightning.cli.evaluating import Evaluation

EPILOG = """\
RUN is a run folder: its configuration, and the model that it exported.

  soul-lightning {command} --config tiny-world-tofu --network my-model      a Hugging Face folder
  soul-lightning {command} runs/quickstart/20250101-120000                  what a run exported
  soul-lightning {command} --config NAME --ckpt_path runs/…/last.ckpt       a checkpoint

Data and callbacks are those of the configuration; all of it can be overridden by dotted names, as
for fit. The table is printed, and the folder holds config.yaml, rows/ and summary.json. A file of
rows is a reference for ForgetQuality and MembershipInference.
"""


def run_evaluation(command: Evaluation, description: str, args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on.

    Args:
        command: Which one.
        description: What it does.
        args: What stands after its name.
    """
    parser = CommandParser(command, description, EPILOG.format(command=command))
    parser.usage = f"soul-lightning {command} [RUN] [OPTIONS]"
    parser.add_argument(
        "-c", "--config", action="append", default=[], metavar="NAME|FILE",
        help="a packaged recipe's name or a YAML file; may be repeated, later ones win",
    )  # fmt: skip
    parser.add_argument("--network", metavar="FOLDER", help="the model: a Hugging Face folder or a hub name")
    parser.add_output("runs/<recipe>/<time>, or within RUN")
    parser.add_modes()
    # Only what stands first is a run: later on, a word without dashes is the value of an option that is handed on.
    run = Path(args[0]) if args and not args[0].startswith("-") else None
    options, others = parser.parse_known_args(args if run is None else args[1:])
    configs, network, folder = list(options.config), options.network, None
    if run is not None:
        configs = [str(_config_of(run)), *configs]
        network = network or _exported(run, others)
        folder = new_run_folder(command, root=run)
    folder = Path(options.output) if options.output else folder
    if not configs:
        raise MisconfigurationError(
            f"{command} needs --config NAME or FILE, or a run folder; `soul-lightning recipes list` shows the recipes"
        )
    recipes: list[Recipe] = [find_recipe(name).require("fit") for name in configs]
    given = config_arguments(recipes)

    from soul_lightning.cli.closing import show_evaluation
    from soul_lightning.cli.evaluating import evaluate

    with speaking(command, parser.mode(options)) as speaker:
        result = evaluate([*given, *others], name_of(recipes), command, network=network, folder=folder)
        if is_first_process():
            speaker.close(result.folder, result.summary, lambda: show_evaluation(result))
    return 0


def _config_of(run: Path) -> Path:
    config = run / CONFIG_NAME
    if not config.is_file():
        raise MisconfigurationError(f"{str(run)!r} is no run folder (no {CONFIG_NAME}); give one that fit has written")
    return config


def _exported(run: Path, others: Sequence[str]) -> str | None:
    """The model that the run exported; none where a checkpoint is named."""
    if any(argument.partition("=")[0] == "--ckpt_path" for argument in others):
        return None
    export = run / EXPORT_NAME
    if not export.is_dir():
        raise MisconfigurationError(
            f"the run {str(run)!r} has exported no model; name one with --network, or a checkpoint with --ckpt_path"
        )
    return str(export)
