"""Going on with a run: which one, whether it is the same, and the command for it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop

from soul_lightning.checkpoint_io import read_checkpoint
from soul_lightning.cli.mistakes import unwritable
from soul_lightning.cli.recipe_files import run_recipe
from soul_lightning.cli.run_checkpoint import RUN_KEY
from soul_lightning.exceptions import MisconfigurationError, RunInterrupted
from soul_lightning.run_folder import CHECKPOINT_NAME, CONFIG_NAME, SUMMARY_NAME

LAST = "last"
"""The checkpoint of the run folder, or none yet: then the run begins."""
_TRAINED = ("model", "data", "seed_everything")
_MAY_DIFFER = ("model.micro_batches", "data.batch_size", "data.cache_dir")
"""Memory and speed alone; the loader checks how many rows a step has."""
_SHOWN = 3


class ResumedFitLoop(_FitLoop):
    """A fit loop that ends a run which was interrupted between its last step and its end.

    Lightning skips a run without a step left altogether, and with it what callbacks do when training ends.
    """

    @classmethod
    def replace_in(cls, trainer: Trainer) -> None:
        """Give a Trainer that has not run yet this loop."""
        loop = cls(trainer, trainer.fit_loop.min_epochs, trainer.fit_loop.max_epochs)
        loop.epoch_loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop = loop

    @property
    def skip(self) -> bool:
        """Whether there is nothing to do."""
        return super().skip and not (self.is_resuming and self.epoch_loop.global_step > 0 and self.max_batches != 0)


def resumed_folder(configs: Sequence[Any]) -> Path:
    """The run folder that `--ckpt_path last` means where no folder is given: that of its `config.yaml`.

    Args:
        configs: The configuration files; None stands for a configuration that was composed of layers.

    Raises:
        MisconfigurationError: None of them is a run's own.
    """
    for path in (Path(str(config)) for config in configs if config is not None):
        if run_recipe(path) is not None:
            return path.parent
    raise MisconfigurationError(
        f"--ckpt_path last goes on with a run, and none is named; give its {CONFIG_NAME} with --config, or its folder "
        f"with --output"
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of a run; none where it was interrupted before the first.

    Raises:
        MisconfigurationError: The run is complete, and its checkpoint is gone.
    """
    path = folder / CHECKPOINT_NAME
    if path.is_file():
        return path
    if (folder / SUMMARY_NAME).exists():
        raise MisconfigurationError(
            f"the run {str(folder)!r} is complete and has no checkpoint any more; there is nothing to go on with "
            f"(checkpoint.keep: true keeps it, to train longer)"
        )
    return None


def trained_recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a configuration that decide what is trained."""
    return {key: config.get(key) for key in _TRAINED}


def refuse_another_recipe(folder: Path, checkpoint: Path | None, recipe: Mapping[str, Any]) -> None:
    """Check that a run goes on with what it began with.

    Args:
        folder: The run folder.
        checkpoint: What it goes on from; without one the folder's `config.yaml` says what began there.
        recipe: `trained_recipe` of the configuration.

    Raises:
        MisconfigurationError: Something differs, or the checkpoint cannot be read.
    """
    if checkpoint is not None:
        what, run = f"the checkpoint {str(checkpoint)!r}", read_checkpoint(checkpoint, mmap=True).get(RUN_KEY, {})
        stored = run.get("recipe")
    else:
        what, path = f"the run {str(folder)!r}", folder / CONFIG_NAME
        stored = trained_recipe(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else None
    if not stored:
        return
    there, here = _flat(stored), _flat(recipe)
    keys = [key for key in dict.fromkeys((*there, *here)) if there.get(key) != here.get(key)]
    differing = [key for key in keys if key not in _MAY_DIFFER]
    if not differing:
        return
    shown = [(key, _short(there.get(key)), _short(here.get(key))) for key in differing[:_SHOWN]]
    named = ", ".join(f"{key} is {one} there and {other} here" for key, one, other in shown)
    more = f" ({len(differing) - _SHOWN} more settings differ)" if len(differing) > _SHOWN else ""
    raise MisconfigurationError(
        f"{what} is of another recipe: {named}{more}; go on with the {CONFIG_NAME} of its run, or begin a new run in "
        f"another folder"
    )


@contextmanager
def naming_the_way_on(folder: Path, export: bool) -> Iterator[None]:
    """Say how to go on with a run that something outside of it has ended.

    Args:
        folder: The run folder.
        export: Whether the run exports its model, which no configuration says.
    """
    options = [] if export else ["--export", "false"]
    given = ["soul-lightning", "fit", "--config", str(folder / CONFIG_NAME), "--ckpt_path", LAST, *options]
    command = f"go on with: {shlex.join(given)}"
    try:
        yield
    except RunInterrupted as stop:
        if not (folder / CHECKPOINT_NAME).is_file():
            raise
        raise RunInterrupted(stop.signal, f"{stop}; {command}") from stop
    except KeyboardInterrupt as stop:
        if not (folder / CHECKPOINT_NAME).is_file():
            raise
        raise RunInterrupted(signal.SIGINT, f"interrupted; {command}") from stop
    except OSError as error:
        reason = unwritable(error)
        if reason is None or not (folder / CHECKPOINT_NAME).is_file():
            raise
        raise MisconfigurationError(f"{reason}; the last checkpoint is whole: mend that, and {command}") from error


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted keys, as on the command line; a class stands under the key of what it makes."""
    if not isinstance(value, Mapping):
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        own = key if name in ("class_path", "init_args") else f"{key}.{name}".lstrip(".")
        found |= _flat(inner, own)
    return found


def _short(value: Any) -> str:
    """A class without its modules; other values as YAML writes them."""
    if isinstance(value, str) and value.startswith(("soul_lightning.", "torch.")):
        return value.rsplit(".", 1)[-1]
    return "null" if value is None else str(value)
