"""One run from a configuration to its folder: LightningCLI underneath, everything written so that it is whole."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from soul_lightning.callbacks.base import ProbeCallback
from soul_lightning.callbacks.dashboard import Dashboard
from soul_lightning.callbacks.hugging_face_export import HuggingFaceExport
from soul_lightning.callbacks.memory_estimate import MemoryEstimator
from soul_lightning.checkpoint_io import AtomicCheckpointIO
from soul_lightning.cli.chatter import tame
from soul_lightning.cli.declared_types import refuse_undeclared, restrict_parsing
from soul_lightning.cli.divergence import is_finite, record, remarks, stopped_by_guard, with_place
from soul_lightning.cli.help_format import FitParser
from soul_lightning.cli.log_places import log_places
from soul_lightning.cli.mistakes import as_sentences, import_rooms
from soul_lightning.cli.progress import StepProgressBar
from soul_lightning.cli.recipe_files import recipe_comment
from soul_lightning.cli.resuming import (
    LAST,
    ResumedFitLoop,
    last_checkpoint,
    naming_the_way_on,
    refuse_another_recipe,
    resumed_folder,
    trained_recipe,
)
from soul_lightning.cli.run_checkpoint import RunCheckpoint
from soul_lightning.cli.run_events import RunEvents
from soul_lightning.cli.run_start import RunStart
from soul_lightning.cli.run_trainer import RunTrainer
from soul_lightning.cli.stages import read_yaml
from soul_lightning.cli.summary import config_hash, summarize
from soul_lightning.cli.terminal import emits_events, is_quiet
from soul_lightning.exceptions import MisconfigurationError, RunInterrupted, TrainingDivergedError
from soul_lightning.files import remove_leftovers
from soul_lightning.modules.base import StreamModule
from soul_lightning.networks.model_card import model_card
from soul_lightning.networks.saving import save_pretrained
from soul_lightning.run_folder import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    EXPORT_NAME,
    discarded_unless,
    new_run_folder,
    refuse_occupied,
    write_summary,
    write_text,
)
from soul_lightning.sharding import put_together

Arguments = Sequence[str] | Mapping[str, Any]
"""Command line arguments, or the configuration itself."""
OWN_LOOP = {
    "gradient_clip_val": (None, 0, "set model.max_grad_norm"),
    "accumulate_grad_batches": (1, 1, "raise data.batch_size, and model.micro_batches with it"),
}
"""Trainer settings that a module with its own loop cannot take: the values that ask for nothing, and the way out."""
DESCRIPTION = """\
Every option of a run. Each is a key of a recipe, too, a level for each dot.
What a class takes:
  soul-lightning fit --model.help UnlearningModule
  soul-lightning fit --model UnlearningModule --model.forget.help NPO     (and so for all that have classes)
"""
TITLES = {
    "trainer": "The Trainer, as lightning has it",
    "model": "What is trained, and how",
    "data": "What it is trained and measured on",
    "checkpoint": "What an interrupted run goes on from",
}
"""Of the groups of options."""
KNOWN_CHECKPOINTS = (LAST, "hpc", "registry")


@dataclass(frozen=True)
class FitResult:
    """What a run left.

    Attributes:
        folder: The run folder.
        summary: What stands in its `summary.json`.
        export: The exported model, if there is one.
        logs: See `log_places`.
        is_measured: Whether callbacks have measured the model.
    """

    folder: Path
    summary: dict[str, Any]
    export: Path | None
    logs: Sequence[str] = ()
    is_measured: bool = False


class EventsLogger(TensorBoardLogger):
    """Events straight into the run folder; the hyperparameters stand in `config.yaml`, not in a second file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False)

    @rank_zero_only
    def save(self) -> None:
        """Flush the events."""
        if self._experiment is not None:
            self._experiment.flush()


class FitCLI(LightningCLI):
    """LightningCLI for one run: parses, seeds, instantiates; `fit` runs it.

    Args:
        args: Command line arguments without a subcommand, or a configuration.
        recipe: What the run is called by.
        folder: The run folder; else `trainer.default_root_dir`, else a new one under `runs/<recipe>`.
        instantiate: Build the objects; otherwise the configuration is only checked.
    """

    def __init__(self, args: Arguments, recipe: str, folder: Path | None = None, instantiate: bool = True) -> None:
        tame()
        restrict_parsing()
        import_rooms()
        self.recipe = recipe
        self.run_folder = folder
        self._instantiates = instantiate
        super().__init__(
            StreamModule,
            LightningDataModule,
            save_config_callback=None,  # written by `fit`, atomically, whatever the logger
            trainer_class=RunTrainer,
            trainer_defaults={"log_every_n_steps": 1, "enable_model_summary": False},
            seed_everything_default=0,
            parser_kwargs={"exit_on_error": False, "description": DESCRIPTION},
            parser_class=FitParser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=dict(args) if isinstance(args, Mapping) else list(args),
            run=False,
            auto_configure_optimizers=False,  # an optimizer is made by the module, from what trains
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what lightning's own `fit` subcommand takes, and what a run goes on from."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint to go on from.")
        parser.add_class_arguments(RunCheckpoint, "checkpoint")
        for name, title in TITLES.items():
            (parser.groups or {})[name].title = title

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without the warning that the process has arguments of its own: it has, and they are these."""
        for path in _config_files(args) if isinstance(args, list) else ():
            read_yaml(path.read_text(encoding="utf-8"), str(path))  # jsonargparse would not name the file
        self.config = parser.parse_object(args) if isinstance(args, dict) else parser.parse_args(args)
        missing = [key for key in ("model", "data") if not self.config.get(key)]
        if missing:
            raise MisconfigurationError(
                f"the run has no {' and no '.join(missing)}; give a recipe with --config, "
                f"or --{missing[0]} CLASS (see soul-lightning fit --help)"
            )
        refuse_undeclared(parser, self.config)

    def before_instantiate_classes(self) -> None:
        """Settle the run folder, and refuse one that holds another run, before anything is loaded."""
        for name, (*nothing, instead) in OWN_LOOP.items():
            if self.config.trainer[name] not in nothing:
                raise MisconfigurationError(
                    f"trainer.{name}={self.config.trainer[name]} cannot serve the module's own training loop; {instead}"
                )
        given, checkpoint = self.config.trainer.default_root_dir, self.config.ckpt_path
        if self.run_folder is None and given:
            self.run_folder = Path(given)
        elif self.run_folder is None and checkpoint == LAST:
            self.run_folder = resumed_folder(self.config.get("config") or [])
        strategy = self.config.trainer.strategy
        if isinstance(strategy, Namespace) and strategy.class_path.endswith(".ModelParallelStrategy"):
            # A folder that every process writes its part to cannot be replaced as a whole.
            strategy.init_args.save_distributed_checkpoint = False
        self.run_folder = self.run_folder or new_run_folder(self.recipe)
        if checkpoint and checkpoint not in KNOWN_CHECKPOINTS and not Path(checkpoint).is_file():
            raise MisconfigurationError(
                f"the checkpoint {checkpoint!r} does not exist; give --ckpt_path a .ckpt file, or {LAST}"
            )
        if self._instantiates and not checkpoint and getattr(rank_zero_only, "rank", 0) == 0:
            refuse_occupied(self.run_folder, ", or go on with that run through --ckpt_path")

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer, unless the configuration is only checked."""
        if self._instantiates:
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Point the Trainer at the run folder."""
        assert self.run_folder is not None
        settings: Namespace = self.config_init.trainer
        kwargs["default_root_dir"] = str(self.run_folder)
        if settings.logger is None or settings.logger is True:
            kwargs["logger"] = EventsLogger(self.run_folder)
        callbacks = [*_listed(settings.callbacks), Dashboard()]  # behind those whose numbers it arranges
        shows = settings.enable_progress_bar is not False and not is_quiet()
        kwargs["enable_progress_bar"] = shows
        if shows or emits_events():
            estimator = MemoryEstimator(report=False)
            callbacks = [estimator, RunStart(self.recipe, estimator, shows), *callbacks]
        if shows:
            # First, so that the bar has ended when another callback prints its table at the end of training.
            callbacks = [StepProgressBar(), *callbacks]
        if emits_events():
            callbacks = [*callbacks, RunEvents()]
        if settings.enable_checkpointing is not False and not settings.fast_dev_run:
            checkpoint: RunCheckpoint = self.config_init.checkpoint
            checkpoint.recipe = self.trained_recipe
            callbacks = [*callbacks, checkpoint]
        plugins = _listed(settings.plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins = [*plugins, AtomicCheckpointIO()]
        trainer = super().instantiate_trainer(**kwargs, callbacks=callbacks, plugins=plugins)
        ResumedFitLoop.replace_in(trainer)
        return trainer

    @property
    def config_text(self) -> str:
        """The whole resolved configuration as YAML, from the first step on."""
        config = self.config.clone()
        config.ckpt_path = None
        return str(self.parser.dump(config, skip_none=False))

    @property
    def trained_recipe(self) -> dict[str, Any]:
        """What decides what is trained, as plain values."""
        return trained_recipe(yaml.safe_load(self.config_text))


def check_config(args: Arguments, recipe: str) -> None:
    """Parse a configuration without building anything.

    Raises:
        MisconfigurationError: A key, a class or a value is wrong.
    """
    with as_sentences():
        FitCLI(args, recipe, instantiate=False)


def fit(
    args: Arguments,
    recipe: str,
    *,
    folder: Path | None = None,
    export: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> FitResult:
    """Run a configuration: train, measure, export, summarise.

    Args:
        args: Command line arguments, or the configuration itself.
        recipe: What the run is called by.
        folder: The run folder, over the configuration's own.
        export: Save the final model as a Hugging Face folder.
        extra: More entries of the summary.

    Raises:
        MisconfigurationError: Something has to be mended; no new folder stays behind if no step was taken.
        TrainingDivergedError: The run was stopped; its last good weights are exported, and its summary says so.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    with as_sentences():
        cli = FitCLI(args, recipe, folder)
        assert cli.run_folder is not None
        trainer, resumes = cli.trainer, bool(cli.config.ckpt_path)
        _ = cli.model.tokenizer  # a model folder without one is found before anything is read or written
        checkpoint = _checkpoint(cli)
        with naming_the_way_on(cli.run_folder, export):
            with discarded_unless(lambda: resumes or trainer.global_step > 0, cli.run_folder):
                if trainer.is_global_zero:
                    remove_leftovers(cli.run_folder, *((cli.run_folder / name) for name in ("checkpoints", "rows")))
                    write_text(cli.run_folder / CONFIG_NAME, f"{recipe_comment(recipe)}\n{cli.config_text}")
                diverged = _train(cli, checkpoint)
            finite = diverged is None or is_finite(cli.model.network)
            exported = cli.run_folder / EXPORT_NAME if export and finite else None
            summary = {
                "recipe": recipe,
                "recipe_hash": config_hash(cli.config_text),
                "seed": cli.config.seed_everything,
                "seconds": round(time.monotonic() - started, 3),
                "cpu_seconds": round(time.process_time() - cpu_started, 3),
                **(extra or {} if diverged is None else record(diverged)),
                **summarize(trainer),
            }
            network = put_together(cli.model.network) if exported is not None else cli.model.network
            if trainer.is_global_zero:
                _close(cli, network, exported, summary, remarks(diverged))
    if diverged is not None:
        raise with_place(diverged, cli.run_folder, exported, finite)
    return FitResult(cli.run_folder, summary, exported, log_places(trainer), measures(trainer))


def _checkpoint(cli: FitCLI) -> str | None:
    """What the run goes on from, after a look at whether it may."""
    assert cli.run_folder is not None
    given: str | None = cli.config.ckpt_path
    path = last_checkpoint(cli.run_folder) if given == LAST else Path(given) if given else None
    if given == LAST or (path is not None and path.is_file()):
        refuse_another_recipe(cli.run_folder, path, cli.trained_recipe)
    if given == LAST and path is None:
        for callback in getattr(cli.trainer, "callbacks", ()):
            if isinstance(callback, HuggingFaceExport):
                callback.begin_anew()
    return str(path) if path is not None else None


def _train(cli: FitCLI, checkpoint: str | None) -> TrainingDivergedError | None:
    """Train; what made the run stop early at weights that are worth keeping, if anything did."""
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint)
        return stopped_by_guard(cli.trainer)
    except TrainingDivergedError as error:
        if cli.trainer.global_step == 0:  # the model is as it was loaded
            raise
        return error
    except SIGTERMException as stop:
        step = cli.trainer.global_step
        when = f"after optimizer step {step}, which is not saved" if step else "before the first step"
        raise RunInterrupted(signal.SIGTERM, f"stopped by SIGTERM {when}") from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # lightning shuts down, then exits with code 1
            raise KeyboardInterrupt from stop
        raise


def _close(
    cli: FitCLI, network: nn.Module, exported: Path | None, summary: Mapping[str, Any], card_remarks: str
) -> None:
    """Write what a complete run leaves; the optimizer's state, which remembers what was forgotten, is not of it."""
    assert cli.run_folder is not None
    if exported is not None:
        merges = cli.model.source is None or cli.model.source.lora is None or cli.model.source.lora.merge_when_saved
        card = model_card(yaml.safe_load(cli.config_text), summary.get("data_hashes"), summary, card_remarks)
        save_pretrained(network, cli.model.tokenizer, exported, merge_adapters=merges, replace=True, card=card)
    write_summary(cli.run_folder, summary)
    if exported is not None and not cli.config.checkpoint.keep:
        checkpoint = cli.run_folder / CHECKPOINT_NAME
        checkpoint.unlink(missing_ok=True)
        with suppress(OSError):  # where somebody else's checkpoints stay, or there were none
            checkpoint.parent.rmdir()


def measures(trainer: Trainer) -> bool:
    """Whether there is a callback that measures."""
    return any(isinstance(callback, ProbeCallback) for callback in getattr(trainer, "callbacks", ()))


def _config_files(args: Sequence[str]) -> list[Path]:
    """The configuration files that arguments name, as far as they are there."""
    given = [value for option, value in pairwise(args) if option == "--config"]
    given += [argument.partition("=")[2] for argument in args if argument.startswith("--config=")]
    # A recipe of layers is given as its text, at whose length Path.is_file raises.
    return [Path(value) for value in given if os.path.isfile(value)]


def _listed(value: Any) -> list[Any]:
    """One, several or none as a list."""
    return [] if value is None else list(value) if isinstance(value, list) else [value]
