"""`soul-lightning compare`: the command's own arguments; `soul_lightning.cli.comparison_grid` does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from soul_lightning.cli.recipe_command import Work, run_recipe
from soul_lightning.cli.restor_command import load_restor

DESCRIPTION = "Compare objectives × optimizers × seeds, every optimizer's learning rate tuned on the same budget."
EPILOG = """\
Example:
  soul-lightning compare --config compare-tiny-world --output runs/mine

Any key of the recipe can be given or overridden by its dotted name:
  --seeds '[0, 1]'
  --optimizers.sophia.rates '[1e-4, 3e-4]'
  --optimizers.soul-release null          leaves it out
  --tuning.criterion forgetting
  --workers 2

A recipe:
  seeds: [0, 1, 2]            reported
  tuning_seeds: [100, 101]    rates are chosen on these, and they stand in no table
  fit: {data: …, trainer: …}  shared by all runs: one budget
  stages:                     as in `restor`; `clean` and `corrupted` must be among them
    clean: {pretrained: DIR}
    corrupted: {model: {…}}
  model:                      what all runs share of the module, the retain weight for one
    class_path: UnlearningModule
    init_args: {network: {pretrained_model_name_or_path: "stage:corrupted"}, …}
  objectives:                 each on top of `model`: forget, retain, …
    npo: {forget: {class_path: NPO}}
    retain: {}                without forget: the retain-only baseline, tuned as the others are
  optimizers:                 each on top of that: rates, optimizer, curvature, max_grad_norm,
                              lr_scheduler, micro_batches, and nothing else
    adamw: {rates: [1e-4, 3e-4], optimizer: {class_path: AdamW}}
  baseline: adamw             the others are compared with it, fact by fact, under each objective
  control_objective: retain   the others are compared with it, fact by fact, under each optimizer
                              (null: none is)
  tuning:
    criterion: restoration    or forgetting, or margin (true minus false answers)
    control_tolerance: 0.05   so much accuracy on control people below the clean model is free;
    control_penalty: 1.0      what is lost beyond it costs so many shares of the criterion each
    most_rates: 9             a grid whose best rate is at its edge is extended to so many
  workers: 2                  processes of one thread each (null: this process); the same numbers
                              for any number
  keep_models: false          the weights of the runs are deleted once they were asked

The output folder holds comparison.csv, comparison.md, comparison.png, tuning.csv, summary.json and
seed<k>/<run>/. With --output of an earlier run, a finished run is reused as long as its settings,
the local files that they name (size and time of change), the runs it starts from, this package's
code and the versions of python, torch, lightning and transformers are the same. A pair that
diverges on a reported seed keeps its row, without numbers.

A recipe of `restor`, such as claims-tiny-world, is done as `restor` does it.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    return run_recipe("compare", DESCRIPTION, EPILOG, "compare-tiny-world", args, _load, {"restor": load_restor})


def _load() -> tuple[Work, Callable[[Path], None]]:
    from soul_lightning.cli.closing import show_compare
    from soul_lightning.cli.comparison_config import parse_comparison
    from soul_lightning.cli.comparison_grid import compare

    def work(settings: dict[str, Any], recipe: str, output: Path | None) -> tuple[Path, dict[str, Any]]:
        return compare(parse_comparison(settings), recipe, output)

    return work, show_compare
