"""`soul-lightning restor`: the command's own arguments; `soul_lightning.cli.restoring` does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.recipe_files import find_recipe
from soul_lightning.cli.terminal import only_json
from soul_lightning.exceptions import MisconfigurationError

DESCRIPTION = "RESTOR end to end: clean → corrupt → unlearn in several ways → one comparison table, CSV and plot."
EPILOG = """\
Any key of the recipe can be given or overridden by its dotted name:
  --seeds '[0, 1, 2]'
  --fit.data.init_args.folder DIR
  --stages.clean.pretrained DIR
  --stages.npo.model.init_args.forget.init_args.beta 0.5

A recipe:
  seeds: [0]                  every stage is run once for each; ${seed} stands for it anywhere below
  fit:                        what the stages share: data, trainer, … as in `soul-lightning fit`
    data: {class_path: TinyWorldDataModule}
  stages:                     each on top of `fit`, in order
    clean: {pretrained: DIR}              a model as it is, only measured
    corrupted: {model: {…}}               trained; its model is `stage:corrupted` for the stages below
    retain-only: {model: {…}}
    npo: {model: {…}}
  restoration: {max_new_tokens: 16, batch_size: 32}     how the probes are asked
  table: {baseline: retain-only}          compared with, fact by fact
A stage with `shared: true` is made once, with the first seed.

The output folder holds seed<k>/<stage>/ (ordinary run folders), comparison.csv, comparison.png and summary.json.
With --output of an earlier run, finished stages whose settings are the same are reused.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    parser = CommandParser("restor", DESCRIPTION, EPILOG)
    parser.add_argument("-c", "--config", metavar="NAME|FILE", help="a packaged recipe's name or a YAML file")
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="the output folder (default: runs/<recipe>/<time>); that of an earlier run is continued",
    )  # fmt: skip
    parser.add_json()
    options, overrides = parser.parse_known_args(args)
    if options.config is None:
        raise MisconfigurationError("restor needs --config NAME or FILE; `soul-lightning recipes list` shows recipes")
    recipe = find_recipe(options.config).require("restor")

    from soul_lightning.cli.closing import show_restor
    from soul_lightning.cli.restoring import restor
    from soul_lightning.cli.stages import override, parse_config, read_yaml
    from soul_lightning.run_folder import summary_text

    config = parse_config(override(read_yaml(recipe.text, str(recipe.path)), overrides))
    with only_json(options.json) as stdout:
        folder, summary = restor(config, recipe.name, options.output)
        show_restor(folder)
        if options.json:
            stdout.write(summary_text({"run": str(folder), **summary}) + "\n")
    return 0
