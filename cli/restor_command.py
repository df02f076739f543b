"""`soul-lightning restor`: the command's own arguments; `soul_lightning.cli.restoring` does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from soul_lightning.cli.recipe_command import Work, run_recipe

DESCRIPTION = "RESTOR end to end: clean → corrupt → unlearn in several ways → one table, CSV and plot."
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
    corrupted: {model: {…}}               trained; below, its model is `stage:corrupted`
    retain-only: {model: {…}}
    npo: {model: {…}}
  restoration: {max_new_tokens: 16, batch_size: 32}     how the probes are asked
  table: {baseline: retain-only}          compared with, fact by fact; `bleu: true` adds BLEU
                                          (extra eval)
    corruptions:                          others; what starts from one is measured against it alone
      corrupted-2: {baseline: retain-only-2}
  claims:                                 numbers that are above 0 where a claim is right
    NPO restores more than GA: [{of: npo, minus: ga}]       lists are averaged
    what was sure comes back: [{confidence: npo}]           rank correlation with recovery
A stage that is null is left out (--stages.npo null). One with `shared: true` is made once, with the
first seed. One with `repair: true` fine-tunes another stage's model once more (RESTOR's repair on
instructions): its row is marked (repaired), and compared with retain-only after the same repair.

The output folder holds seed<k>/<stage>/ (ordinary run folders), comparison.csv, comparison.png,
summary.json, a figure more for each other corruption and, with claims, claims.md, claims.csv and
claims.png. With --output of an earlier run, a finished stage is reused as long as its settings,
the local files that they name (size and time of change), the stages it starts from, this package's
code and the versions of python, torch, lightning and transformers are the same.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    return run_recipe("restor", DESCRIPTION, EPILOG, "tiny-world", args, load_restor)


def load_restor() -> tuple[Work, Callable[[Path], None]]:
    """The work, and how its results are shown."""
    from soul_lightning.cli.closing import show_restor
    from soul_lightning.cli.restoring import restor
    from soul_lightning.cli.stages import parse_config

    def work(settings: dict[str, Any], recipe: str, output: Path | None) -> tuple[Path, dict[str, Any]]:
        return restor(parse_config(settings), recipe, output)

    return work, show_restor
