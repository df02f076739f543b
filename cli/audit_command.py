"""`soul-lightning audit`: the command's own arguments; `soul_lightning.cli.auditing` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from soul_lightning.cli.arguments import CommandParser
from soul_lightning.cli.recipe_files import find_recipe
from soul_lightning.cli.terminal import speaking
from soul_lightning.exceptions import MisconfigurationError

EXAMPLE = "as in --config tiny-world --model runs/…/export"
DESCRIPTION = "Is it really gone? Attack an unlearned model in every way there is, and write a report."
EPILOG = """\
Examples:
  soul-lightning audit --config tiny-world --model runs/…/export
  soul-lightning audit --config tofu --model MODEL --reference RETAIN_ONLY --original BEFORE
  soul-lightning audit --config tofu --config my-battery.yaml --model MODEL --minutes 60

The configuration says what must be gone and what must stay: its `data` is used (of a recipe of
restor or compare the `fit` section), nothing is trained, and the model itself is never changed.
What is asked are the callbacks under `trainer.callbacks` of a configuration that lists an attack,
else those of the packaged battery (`soul-lightning recipes show audit`). Anything can be
overridden by its dotted name, as for fit. A configuration may name model, reference, original and
minutes under the key `audit`.

With --reference, a model that never saw what is to be forgotten, every attack has to get more than
the same attack on it; without one, more than guessing. The folder of an audit of that model does as
well, and nothing is measured twice. --original is the model before unlearning.

The output folder holds audit.html, audit.md, audit.json, rows/ and parts/. Run the same command
again with the same --output to go on with an audit that was broken off or ran out of minutes: parts
that are done are not asked again.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    parser = CommandParser("audit", DESCRIPTION, EPILOG)
    parser.add_argument(
        "-c", "--config", action="append", default=[], metavar="NAME|FILE",
        help="a packaged recipe's name or a YAML file; may be repeated, later ones win",
    )  # fmt: skip
    parser.add_argument("--model", metavar="FOLDER", help="the model: a Hugging Face folder or a hub name")
    parser.add_argument(
        "--reference", metavar="FOLDER", help="a model that never saw what is to be forgotten, or its audit"
    )
    parser.add_argument("--original", metavar="FOLDER", help="the model before unlearning")
    parser.add_argument("--minutes", type=_minutes, metavar="N", help="end after so many minutes, with what is done")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N",
        help="what ${seed} stands for in the recipe; callbacks draw by their own",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR",
        help="the output folder (default: runs/audit/<time>); that of an earlier audit is continued",
    )  # fmt: skip
    parser.add_modes()
    options, overrides = parser.parse_known_args(args)
    if not options.config:
        raise MisconfigurationError(f"audit needs --config NAME or FILE, {EXAMPLE}")
    recipes = [find_recipe(name) for name in options.config]

    from soul_lightning.cli.audit_config import audit_config
    from soul_lightning.cli.auditing import Audited, audit
    from soul_lightning.cli.closing import show_audit

    settings, config = audit_config(recipes)
    model = options.model or settings.model
    if model is None:
        raise MisconfigurationError(f"audit needs --model FOLDER, {EXAMPLE}")
    audited = Audited(model, options.reference or settings.reference, options.original or settings.original)
    minutes = options.minutes or settings.minutes
    with speaking("audit", parser.mode(options)) as speaker:
        folder, report = audit(config, recipes[-1].name, overrides, audited, options.output, minutes, options.seed)
        speaker.close(folder, report.record(), lambda: show_audit(folder, report))
    return 0


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, got {text!r}")
    return minutes
