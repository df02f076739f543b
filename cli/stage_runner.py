"""One stage for one seed: an ordinary `fit`, its model asked the questions, both reused where nothing changed."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.fitting import FitCLI, check_config, fit
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.cli.stages import Stage, content_hash, filled, model_files, named_files, package_hash
from soul_lightning.cli.summary import versions
from soul_lightning.cli.terminal import note, unspoken
from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.judge import Judge
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.progress import labelled
from soul_lightning.protocols import Probe, SuppliesProbes
from soul_lightning.run_folder import EXPORT_NAME, read_summary, write_text
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.answers import AnswerRow, answer_probe, read_rows, write_rows
from soul_lightning.scoring.scorer import Scorer

ROWS_NAME = "rows/restoration_unlearned.jsonl"
MARK_NAME = "rows/measured.json"
ROLES = ("corrupted", "control")
LONGEST_QUESTION_TOKENS = 2048
"""Longer ones, with their context and answer, are cut when the true answer's probability is asked for."""


@dataclass(frozen=True)
class Asking:
    """How the probes are asked and judged.

    Attributes:
        max_new_tokens: Most tokens of an answer.
        batch_size: Most rows in a batch.
        threshold: Token-F1 from which an answer counts as the true (or the false) one.
    """

    max_new_tokens: int = 16
    batch_size: int = 32
    threshold: float = Judge().threshold

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Asking:
        """The settings under `restoration`.

        Raises:
            MisconfigurationError: A key is unknown, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for key, value in config.items():
            if key not in known:
                raise MisconfigurationError(
                    f"restoration has no key {key!r}{nearest(str(key), known)}; its keys are {', '.join(known)}"
                )
            if key == "threshold" and (type(value) not in (int, float) or not 0 < value <= 1):
                raise MisconfigurationError(f"restoration.{key} must be a number above 0 and at most 1, got {value!r}")
            if key != "threshold" and (type(value) is not int or value < 1):
                raise MisconfigurationError(f"restoration.{key} must be a whole number >= 1, got {value!r}")
        return cls(**config)


def restoration_questions(owner: str, probes: Sequence[Probe]) -> Sequence[Probe]:
    """The questions about corrupted facts and about control people.

    Args:
        owner: Whose probes they are, for the error.
        probes: All that there are.

    Raises:
        MisconfigurationError: There are none about corrupted facts.
    """
    asked = [probe for probe in probes if probe.kind == "question" and probe.role in ROLES]
    if not any(probe.role == "corrupted" for probe in asked):
        raise MisconfigurationError(f"{owner} has no questions about corrupted facts; restoration needs them")
    return asked


class StageRunner:
    """Makes the models of stages in one output folder, and asks them.

    A trained stage is a run folder `seed<k>/<stage>/`, one that all seeds share is `shared/<stage>/`.

    Args:
        fit: What the stages share; the probes are those of its DataModule.
        asking: How the probes are asked and judged.
        folder: The output folder.
        recipe: What the runs are called by.
        shared_seed: The seed of stages that are made once.
        is_quiet: Say nothing about what is being done.
        choose: Which of a DataModule's probes are asked; is given the DataModule's name, for its errors.
    """

    def __init__(
        self,
        fit: Mapping[str, Any],
        asking: Asking,
        folder: Path,
        recipe: str,
        shared_seed: int,
        is_quiet: bool = False,
        choose: Callable[[str, Sequence[Probe]], Sequence[Probe]] = restoration_questions,
    ) -> None:
        self.fit = fit
        self.asking = asking
        self.folder = folder
        self.recipe = recipe
        self.shared_seed = shared_seed
        self.is_quiet = is_quiet
        self.choose = choose
        self._probes: dict[int, Sequence[Probe]] = {}
        self._device = torch.device("cpu")
        """Where questions are answered; that of the Trainer, once there is one."""

    def check(self, stage: Stage) -> None:
        """Parse the stage's configuration without building anything.

        Raises:
            MisconfigurationError: A key, a class or a value is wrong.
        """
        if stage.pretrained is None:
            check_config(self._settings(stage, self.shared_seed, {}), stage.name)

    def hash(self, stage: Stage, seed: int, upstream: Mapping[str, str]) -> str:
        """What the stage's model and answers come from.

        Its settings, the local files that they name, the stages that it starts from, the code, and the versions of what
        the code runs on.
        """
        code = [package_hash(), versions()]
        if stage.pretrained is not None:
            return content_hash(stage.pretrained, model_files(stage.pretrained), code)
        settings = self._settings(stage, self.shared_seed if stage.shared else seed, {})
        files = named_files([settings.get("model"), settings.get("data")], self.folder)
        return content_hash(settings, files, [upstream[name] for name in stage.upstream], code)

    def run_folder(self, stage: Stage, seed: int) -> Path:
        """The folder of the stage's own run."""
        return self.folder / "shared" / stage.name if stage.shared else self._rows_folder(stage, seed)

    def model_path(self, stage: Stage, seed: int) -> str:
        """Where the stage's model is, or will be."""
        return stage.pretrained or str(self.run_folder(stage, seed) / EXPORT_NAME)

    def model(self, stage: Stage, seed: int, models: Mapping[str, str], stage_hash: str, label: str) -> str:
        """The folder of the stage's model, made now or before.

        Args:
            stage: The stage.
            seed: The run's seed.
            models: Model folders of the stages that it starts from.
            stage_hash: Its `hash`.
            label: What it is called in notes.
        """
        export = self.model_path(stage, seed)
        if stage.pretrained is not None:
            return export
        folder = self.run_folder(stage, seed)
        if (read_summary(folder) or {}).get("stage_hash") == stage_hash and Path(export).is_dir():
            self._note(f"{label}: reused from {folder}")
            return export
        self._note(f"{label}: training")
        if folder.exists():
            shutil.rmtree(folder)
        settings = self._settings(stage, self.shared_seed if stage.shared else seed, models)
        # One process: a second one would run all of this command, and its stages would make the same folders.
        settings["trainer"] = {"devices": 1} | settings["trainer"]
        # Of many runs that may be elsewhere, in workers, the command itself says what came of each.
        with unspoken() if self.is_quiet else nullcontext():
            fit(settings, f"{self.recipe}/{stage.name}", folder=folder, extra={"stage_hash": stage_hash})
        # Trainer, module and optimizer refer to one another. Without this, the weights, gradients and optimizer states
        # of stage after stage stay until Python happens to look for such circles.
        gc.collect()
        return export

    def probes(self, seed: int, model: str) -> Sequence[Probe]:
        """The questions of one seed: those of the shared DataModule, the same for every stage.

        Args:
            seed: The run's seed.
            model: A model folder with the tokenizer.

        Raises:
            MisconfigurationError: There are none that can be asked.
        """
        if seed not in self._probes:
            self._probes[seed] = self._load_probes(seed, model)
        return self._probes[seed]

    def known_answers(
        self, stage: Stage, seed: int, stage_hash: str, probes: Sequence[Probe]
    ) -> list[AnswerRow] | None:
        """The answers of the stage's model to `probes`, if they were given before."""
        folder = self._rows_folder(stage, seed)
        if _mark(folder) != self._asked(stage_hash, probes):
            return None
        return [replace(row, model=stage.name, seed=seed) for row in read_rows(folder / ROWS_NAME)]

    def answers(
        self, stage: Stage, seed: int, model: str, stage_hash: str, probes: Sequence[Probe], label: str
    ) -> list[AnswerRow]:
        """The answers of the stage's `model` to `probes`, asked now or before."""
        known = self.known_answers(stage, seed, stage_hash, probes)
        if known is not None:
            return known
        rows = self._ask(stage, model, probes, label)
        folder = self._rows_folder(stage, seed)
        write_rows(folder / ROWS_NAME, rows)
        write_text(folder / MARK_NAME, json.dumps({"hash": self._asked(stage_hash, probes)}) + "\n")
        return [replace(row, seed=seed) for row in rows]

    def _settings(self, stage: Stage, seed: int, models: Mapping[str, str]) -> dict[str, Any]:
        settings: dict[str, Any] = filled(stage.config, seed, models)
        # What a later stage starts from is the export; checkpoints with optimizer states would only fill the disk.
        trainer = {"enable_checkpointing": False} | (settings.get("trainer") or {})
        return settings | {"seed_everything": seed, "trainer": trainer}

    def _rows_folder(self, stage: Stage, seed: int) -> Path:
        return self.folder / f"seed{seed}" / stage.name

    def _asked(self, stage_hash: str, probes: Sequence[Probe]) -> str:
        asked = [[probe.name, probe.role, repr(probe.template), rows_hash(probe.examples)] for probe in probes]
        return content_hash(stage_hash, self.asking.__dict__, asked)

    def _load_probes(self, seed: int, model: str) -> Sequence[Probe]:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "devices": 1}
        quiet |= {key: value for key, value in (self.fit.get("trainer") or {}).items() if key == "accelerator"}
        module = {"class_path": "FinetuningModule", "init_args": {"network": {"pretrained_model_name_or_path": model}}}
        settings = {"model": module, "data": filled(self.fit["data"], seed, {}), "trainer": quiet}
        with as_sentences():
            cli = FitCLI(settings | {"seed_everything": seed}, self.recipe, self.folder / "probes")
            data = cli.datamodule
            cli.trainer.strategy.connect(cli.model)  # so that the DataModule finds the module's tokenizer
            data.trainer = cli.trainer
            data.setup("fit")
            self._device = cli.trainer.strategy.root_device
        if not isinstance(data, SuppliesProbes):
            raise MisconfigurationError(
                f"{type(data).__name__} has no probes(), and {self.recipe} needs questions to ask"
            )
        return self.choose(type(data).__name__, data.probes())

    def probabilities(self, model: str, probes: Sequence[Probe], seed: int) -> dict[tuple[int, str, int], float]:
        """The probability of the true answer to each question about corrupted facts, by `AnswerRow.key`.

        Args:
            model: The model's folder.
            probes: The questions.
            seed: The run's seed.
        """
        scorer = Scorer(self._adapter(model), max_tokens=LONGEST_QUESTION_TOKENS)
        return {
            (seed, probe.name, score.index): score.probability
            for probe in probes
            if probe.role == "corrupted"
            for score in scorer(probe.examples, probe.template)
        }

    def _adapter(self, model: str) -> CausalLMAdapter:
        source = PretrainedNetwork(model)
        return CausalLMAdapter(source.load_network().to(self._device), source.load_tokenizer())

    def _ask(self, stage: Stage, model: str, probes: Sequence[Probe], label: str) -> list[AnswerRow]:
        adapter = self._adapter(model)
        judge = Judge(threshold=self.asking.threshold)
        total = sum(len(probe.examples) for probe in probes)
        self._note(f"{label}: asking {total} questions")
        with labelled(label):
            return [
                row
                for probe in probes
                for row in answer_probe(
                    adapter,
                    probe,
                    judge,
                    model=stage.name,
                    max_new_tokens=self.asking.max_new_tokens,
                    batch_size=self.asking.batch_size,
                )
            ]

    def _note(self, text: str) -> None:
        if not self.is_quiet:
            note(text)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Put `what` before anything that a user has to mend in it."""
    try:
        yield
    except MisconfigurationError as error:
        raise MisconfigurationError(f"{what}: {error}") from error


def _mark(folder: Path) -> str | None:
    try:
        mark: dict[str, str] = json.loads((folder / MARK_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return mark.get("hash") if (folder / ROWS_NAME).is_file() else None
