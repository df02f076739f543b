"""`soul-lightning fit`: the command's own arguments; `soul_lightning.cli.fitting` does the work."""

from __future__ import annotations

from collections.abc import Sequence

from soul_lightning.cli.arguments import CommandParser, boolean
from soul_lightning.cli.recipe_files import config_arguments, find_recipe, name_of
from soul_lightning.cli.terminal import is_first_process, speaking
from soul_lightning.exceptions import MisconfigurationError

DESCRIPTION = "Train or unlearn a causal language model, measure it, and export it."
EPILOG = """\
Everything in a recipe can be given or overridden by its dotted name:
  --model.optimizer.lr 3e-5            a value (`init_args` may be left out)
  --model.forget GradientAscent        another class, by short name or import path; settings that
                                       both classes have stay as the recipe gave them
  --data.batch_size 8
  --trainer.max_epochs 3               anything that lightning's Trainer takes
  --seed_everything 1                  0 by default
  --ckpt_path last                     go on with an interrupted run, whose config.yaml is given
                                       with --config
  --checkpoint.every_n_steps 50        save also every so many optimizer steps (200), beside each
                                       epoch's end
  --checkpoint.keep true               keep the checkpoint of a complete run, to train it longer

To look around:
  soul-lightning recipes list          the packaged recipes
  soul-lightning fit --config NAME --print_config      the whole configuration, defaults included
  soul-lightning fit --model.help UnlearningModule     what a class takes (also --data.help, …)
  soul-lightning fit --help-all        every option

The run folder holds config.yaml, TensorBoard events, checkpoints/, rows/, export/ and summary.json.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    parser = CommandParser("fit", DESCRIPTION, EPILOG)
    parser.add_argument(
        "-c", "--config", action="append", default=[], metavar="NAME|FILE",
        help="a packaged recipe's name or a YAML file; may be repeated, later ones win",
    )  # fmt: skip
    parser.add_output()
    parser.add_argument(
        "--export", type=boolean, default=True, metavar="{true,false}",
        help="save the final model as a Hugging Face folder in the run folder (default: true)",
    )  # fmt: skip
    parser.add_modes()
    parser.add_argument("--help-all", action="store_true", help="every option of model, data and trainer")
    options, others = parser.parse_known_args(args)
    if not options.config and not others and not options.help_all:
        raise MisconfigurationError("fit needs --config NAME or FILE; `soul-lightning recipes list` shows the recipes")
    recipes = [find_recipe(name).require("fit") for name in options.config]
    configs = config_arguments(recipes)
    others += [f"--trainer.default_root_dir={options.output}"] if options.output else []
    name = name_of(recipes) if recipes else "fit"

    from soul_lightning.cli.closing import show_fit
    from soul_lightning.cli.fitting import fit

    with speaking("fit", parser.mode(options)) as speaker:
        result = fit([*configs, *(["--help"] if options.help_all else []), *others], name, export=options.export)
        if is_first_process():  # which has written the run and speaks for all
            speaker.close(result.folder, result.summary, lambda: show_fit(result))
    return 0
