"""`soul-lightning requests`: the command's own arguments; `soul_lightning.cli.request_runs` does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from soul_lightning.cli.recipe_command import Work, run_recipe

DESCRIPTION = "Unlearning requests one after another: what stays forgotten, what stays, and at what cost."
EPILOG = """\
Example:
  soul-lightning requests --config requests-tiny-world --output runs/mine

Any key of the recipe can be given or overridden by its dotted name:
  --seeds '[0, 1, 2]'
  --methods.npo-adamw null                leaves it out
  --sequence '[{forget: 1}, {forget: 2}, {withdraw: 1}]'
  --sizes '[1, 2, 4]'

A recipe:
  seeds: [0]                  everything is run once for each
  fit: {data: …, trainer: …}  shared by all runs; any DataModule that knows `requests`
  stages:                     the models before the first request, as in `restor`
    trained: {pretrained: DIR}
  start: trained              the stage whose model gets the first request (default: the last one)
  methods:                    each on top of `fit`; the network is that of the run before
    npo: {model: {class_path: UnlearningModule, init_args: {forget: {class_path: NPO}, …}}}
  requests: 4                 into so many what is to be forgotten is cut, by subject
  sequence:                   each step a `fit` from the model of the last (default: 1 to n)
    - {forget: 1}
    - {forget: [2, 3]}                            together
    - {forget: 4, request_at_step: {40: 5}}       the target changes after 40 optimizer steps
    - {withdraw: 2}
  sizes: [1, 2, 4]            so many requests at once, each in a run of its own from the start
  withdrawal: [relearn, redo] how a withdrawn request is taken back: its text is learned again, or
                              all since it came is done again without it; the sequence goes on with
                              the first, the other is measured beside
  relearning: {model: …}      the `fit` that learns it again: FinetuningModule, on forget
  restoration: {max_new_tokens: 16, batch_size: 32}     how questions are asked
  workers: 2                  processes of one thread each (null: this process)

After every step each request is asked about (of corrupted facts the false answers count), and so is
what must stay. Intervals resample subjects. For shares such as 1, 5 and 10 % take requests: 100 and
sizes: [1, 5, 10].

The output folder holds requests.csv, requests.png, summary.json and seed<k>/<run>/, whose name says
what came before: npo-f1-f2-r1 forgot 1, forgot 2 and learned 1 again. With --output of an earlier
run a finished run is reused as long as its settings, the local files that they name, the runs it
starts from, this package's code and the versions of python, torch, lightning and transformers are
the same.
"""


def run(args: Sequence[str]) -> int:
    """Parse the command's own options and hand the others on."""
    return run_recipe("requests", DESCRIPTION, EPILOG, "requests-tiny-world", args, _load)


def _load() -> tuple[Work, Callable[[Path], None]]:
    from soul_lightning.cli.closing import show_requests
    from soul_lightning.cli.request_config import parse_requests
    from soul_lightning.cli.request_runs import run_requests

    def work(settings: dict[str, Any], recipe: str, output: Path | None) -> tuple[Path, dict[str, Any]]:
        return run_requests(parse_requests(settings), recipe, output)

    return work, show_requests
