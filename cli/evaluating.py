"""`validate` and `test`: a configuration's callbacks on a model as it is, without training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from soul_lightning.cli.fitting import FitCLI, measures
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.cli.recipe_files import recipe_comment
from soul_lightning.cli.resuming import LAST
from soul_lightning.cli.summary import config_hash, summarize
from soul_lightning.cli.terminal import emit
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.run_folder import CONFIG_NAME, discarded_unless, write_summary, write_text

Evaluation = Literal["validate", "test"]
NETWORK_ARGUMENT = "--model.init_args.network.pretrained_model_name_or_path"


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation left.

    Attributes:
        folder: Its folder, with `rows/`.
        summary: What stands in its `summary.json`.
    """

    folder: Path
    summary: dict[str, Any]


def evaluate(
    args: Sequence[str], recipe: str, evaluation: Evaluation, *, network: str | None, folder: Path | None = None
) -> EvaluationResult:
    """Measure a model with the callbacks and the data of a configuration.

    Args:
        args: Command line arguments, as of `fit`.
        recipe: What the run is called by.
        evaluation: `validate`, or `test`, which takes every example of every probe.
        network: Hugging Face folder or hub name in place of the configuration's own.
        folder: Where results go; else `trainer.default_root_dir`, else a new folder under `runs/<recipe>`.

    Raises:
        MisconfigurationError: Something has to be mended; no new folder stays behind.
    """
    started = time.monotonic()
    # What a soup's run has exported is its average already.
    instead = [f"{NETWORK_ARGUMENT}={network}", "--model.init_args.network.soup=[]"] if network is not None else []
    given = [*args, *instead]
    with as_sentences():
        cli = FitCLI(given, recipe, folder)
        assert cli.run_folder is not None
        if cli.config.ckpt_path == LAST:
            raise MisconfigurationError(f"{evaluation}: --ckpt_path last is for fit; name the checkpoint's file")
        trainer = cli.trainer
        if not measures(trainer):
            raise MisconfigurationError(
                f"{evaluation}: the configuration has no callback that measures; list some under trainer.callbacks, "
                f"such as Utility"
            )
        _ = cli.model.tokenizer  # a model folder without one is found before anything is read or written
        model = network or cli.config.ckpt_path or cli.config.model.init_args.network.pretrained_model_name_or_path
        emit("start", command=evaluation, recipe=recipe, run=str(cli.run_folder), model=model)
        measured = False
        with discarded_unless(lambda: measured, cli.run_folder):
            if trainer.is_global_zero:
                write_text(cli.run_folder / CONFIG_NAME, f"{recipe_comment(recipe)}\n{cli.config_text}")
            run = trainer.validate if evaluation == "validate" else trainer.test
            run(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, verbose=False)
            measured = True
    summary = {
        "recipe": recipe,
        "recipe_hash": config_hash(cli.config_text),
        "evaluation": evaluation,
        "model": model,
        "seed": cli.config.seed_everything,
        "seconds": round(time.monotonic() - started, 3),
        **summarize(trainer),
    }
    if trainer.is_global_zero:
        write_summary(cli.run_folder, summary)
    return EvaluationResult(cli.run_folder, summary)
