"""`soul-lightning describe`: the command's own arguments; `soul_lightning.cli.describing` does the work."""

from __future__ import annotations

from collections.abc import Sequence

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.recipe_files import config_arguments, find_recipe, name_of
from soul_lightning.cli.terminal import speaking

DESCRIPTION = "Read a recipe's data and say what it holds; nothing is trained and nothing is written."
EPILOG = """\
Settings are overridden as in `fit`:
  soul-lightning describe --config records --data.forget mine.jsonl
  soul-lightning describe --config records --model.network.pretrained_model_name_or_path FOLDER

Shown for each stream: rows, tokens, rows that are cut or left out, repeated rows, and the first row
as it is trained on, what is labelled between ⟦ and ⟧; then the probes, and how much of forget also
stands in retain.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    parser = CommandParser("describe", DESCRIPTION, EPILOG)
    parser.add_argument(
        "-c", "--config", required=True, action="append", metavar="NAME|FILE",
        help="a packaged recipe's name or a YAML file; may be repeated, later ones win",
    )  # fmt: skip
    parser.add_json()
    options, others = parser.parse_known_args(args)
    recipes = [find_recipe(name).require("fit") for name in options.config]

    import json

    from soul_lightning.cli.describing import describe, show_description

    with speaking("describe", "json" if options.json else "text") as speaker:
        description = describe([*config_arguments(recipes), *others], name_of(recipes))
        show_description(description)
        if options.json:
            speaker.stdout.write(json.dumps(description.as_dict(), ensure_ascii=False, indent=2) + "\n")
    return 0
