"""`restor`: every stage an ordinary `fit`, every model asked the same questions, one comparison at the end."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.comparing import CSV_NAME, FIGURE_NAME, write_comparison
from soul_lightning.cli.fitting import FitCLI, check_config, fit
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.cli.progress import counted
from soul_lightning.cli.stages import RestorConfig, Stage, content_hash, filled, model_files
from soul_lightning.cli.summary import versions
from soul_lightning.cli.terminal import note
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.judge import Judge
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.protocols import Probe, SuppliesProbes
from soul_lightning.run_folder import (
    CONFIG_NAME,
    EXPORT_NAME,
    SUMMARY_NAME,
    discarded_unless,
    new_run_folder,
    read_summary,
    refuse_occupied,
    write_summary,
    write_text,
)
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.answers import AnswerRow, answer_probe, read_rows, write_rows

ROWS_NAME = "rows/restoration_unlearned.jsonl"
MARK_NAME = "rows/measured.json"
ROLES = ("corrupted", "control")


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
            MisconfigurationError: A key is unknown.
        """
        known = [field.name for field in fields(cls)]
        for key in config:
            if key not in known:
                raise MisconfigurationError(
                    f"restoration has no key {key!r}{nearest(key, known)}; its keys are {', '.join(known)}"
                )
        return cls(**config)


def restor(config: RestorConfig, recipe: str, output: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Make every stage for every seed, ask every model, compare.

    Args:
        config: What to do.
        recipe: What the run is called by.
        output: The output folder; that of an earlier run is continued, none makes a new one.

    Returns:
        The output folder and what stands in its `summary.json`.

    Raises:
        MisconfigurationError: Something has to be mended; no new folder stays behind if no stage was finished.
    """
    started = time.monotonic()
    folder = output or new_run_folder(recipe)
    _refuse_foreign(folder)
    work = _Work(config, Asking.from_config(config.restoration), folder, recipe)
    work.check()
    rows: dict[str, list[AnswerRow]] = {stage.name: [] for stage in config.stages}
    for name in (SUMMARY_NAME, CSV_NAME, FIGURE_NAME):  # of an earlier run: they would stand beside other settings
        (folder / name).unlink(missing_ok=True)
    with discarded_unless(lambda: work.finished > 0, folder):
        write_text(folder / CONFIG_NAME, yaml.safe_dump(dict(config.raw), sort_keys=False, allow_unicode=True))
        for seed in config.seeds:
            for name, answers in work.run(seed).items():
                rows[name] += answers
    numbers = write_comparison(folder, rows, config)
    summary = numbers | {
        "recipe": recipe,
        "recipe_hash": content_hash(config.raw),
        "seeds": list(config.seeds),
        "seconds": round(time.monotonic() - started, 3),
        "versions": versions(),
    }
    write_summary(folder, summary)
    return folder, summary


def check_stages(config: RestorConfig, recipe: str) -> None:
    """Parse every stage's configuration without training anything.

    Raises:
        MisconfigurationError: A key, a class or a value of a stage is wrong.
    """
    _Work(config, Asking.from_config(config.restoration), Path(), recipe).check()


class _Work:
    """The stages of one `restor` run and what became of them."""

    def __init__(self, config: RestorConfig, asking: Asking, folder: Path, recipe: str) -> None:
        self.config = config
        self.asking = asking
        self.folder = folder
        self.recipe = recipe
        self.finished = 0
        self.device = torch.device("cpu")
        """Where questions are answered; that of the Trainer, once there is one."""

    def check(self) -> None:
        """Parse every stage's configuration before the first is trained."""
        for stage in self.config.stages:
            if stage.pretrained is None:
                with _named(stage):
                    check_config(self._settings(stage, self.config.seeds[0], {}), stage.name)

    def run(self, seed: int) -> dict[str, list[AnswerRow]]:
        """Every stage for one seed; the answers of each model."""
        models: dict[str, str] = {}
        hashes: dict[str, str] = {}
        probes: Sequence[Probe] | None = None
        rows = {}
        for number, stage in enumerate(self.config.stages, start=1):
            label = f"[{number}/{len(self.config.stages)}] {stage.name}, seed {seed}"
            with _named(stage):
                hashes[stage.name] = self._hash(stage, seed, hashes)
                models[stage.name] = self._model(stage, seed, models, hashes[stage.name], label)
                if probes is None:
                    probes = self._probes(seed, models[stage.name])
                rows[stage.name] = self._answers(stage, seed, models[stage.name], hashes[stage.name], probes, label)
            self.finished += 1
        return rows

    def _settings(self, stage: Stage, seed: int, models: Mapping[str, str]) -> dict[str, Any]:
        settings: dict[str, Any] = filled(stage.config, seed, models)
        # What a later stage starts from is the export; checkpoints with optimizer states would only fill the disk.
        trainer = {"enable_checkpointing": False} | (settings.get("trainer") or {})
        return settings | {"seed_everything": seed, "trainer": trainer}

    def _hash(self, stage: Stage, seed: int, upstream: Mapping[str, str]) -> str:
        if stage.pretrained is not None:
            return content_hash(stage.pretrained, model_files(stage.pretrained))
        own_seed = self.config.seeds[0] if stage.shared else seed
        return content_hash(self._settings(stage, own_seed, {}), [upstream[name] for name in stage.upstream])

    def _stage_folder(self, stage: Stage, seed: int) -> Path:
        return self.folder / f"seed{seed}" / stage.name

    def _model(self, stage: Stage, seed: int, models: Mapping[str, str], stage_hash: str, label: str) -> str:
        """The folder of the stage's model, made now or before."""
        if stage.pretrained is not None:
            return stage.pretrained
        own_seed = self.config.seeds[0] if stage.shared else seed
        folder = self.folder / "shared" / stage.name if stage.shared else self._stage_folder(stage, seed)
        export = folder / EXPORT_NAME
        if (read_summary(folder) or {}).get("stage_hash") == stage_hash and export.is_dir():
            note(f"{label}: reused from {folder}")
            return str(export)
        note(f"{label}: training")
        if folder.exists():
            shutil.rmtree(folder)
        settings = self._settings(stage, own_seed, models)
        # One process: a second one would run all of this command, and its stages would make the same folders.
        settings["trainer"] = {"devices": 1} | settings["trainer"]
        fit(settings, f"{self.recipe}/{stage.name}", folder=folder, extra={"stage_hash": stage_hash})
        return str(export)

    def _probes(self, seed: int, model: str) -> Sequence[Probe]:
        """The questions of one seed: those of the shared DataModule, the same for every stage."""
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "devices": 1}
        quiet |= {key: value for key, value in (self.config.fit.get("trainer") or {}).items() if key == "accelerator"}
        module = {"class_path": "FinetuningModule", "init_args": {"network": {"pretrained_model_name_or_path": model}}}
        settings = {"model": module, "data": filled(self.config.fit["data"], seed, {}), "trainer": quiet}
        with as_sentences():
            cli = FitCLI(settings | {"seed_everything": seed}, self.recipe, self.folder / "probes")
            data = cli.datamodule
            cli.trainer.strategy.connect(cli.model)  # so that the DataModule finds the module's tokenizer
            data.trainer = cli.trainer
            data.setup("fit")
            self.device = cli.trainer.strategy.root_device
        if not isinstance(data, SuppliesProbes):
            raise MisconfigurationError(f"{type(data).__name__} has no probes(), and restor needs questions to ask")
        probes = [probe for probe in data.probes() if probe.kind == "question" and probe.role in ROLES]
        if not any(probe.role == "corrupted" for probe in probes):
            raise MisconfigurationError(
                f"{type(data).__name__} has no questions about corrupted facts; restor needs them"
            )
        return probes

    def _answers(
        self, stage: Stage, seed: int, model: str, stage_hash: str, probes: Sequence[Probe], label: str
    ) -> list[AnswerRow]:
        """The stage's answers, asked now or before."""
        folder = self._stage_folder(stage, seed)
        asked = content_hash(stage_hash, self.asking.__dict__, [_probe_hash(probe) for probe in probes])
        if _mark(folder) == asked:
            rows = read_rows(folder / ROWS_NAME)
        else:
            rows = self._ask(stage, model, probes, label)
            write_rows(folder / ROWS_NAME, rows)
            write_text(folder / MARK_NAME, json.dumps({"hash": asked}) + "\n")
        return [replace(row, model=stage.name, seed=seed) for row in rows]

    def _ask(self, stage: Stage, model: str, probes: Sequence[Probe], label: str) -> list[AnswerRow]:
        source = PretrainedNetwork(model)
        adapter = CausalLMAdapter(source.load_network().to(self.device), source.load_tokenizer())
        judge = Judge(threshold=self.asking.threshold)
        total = sum(len(probe.examples) for probe in probes)
        with counted(f"{label}: asking", total, "questions") as advance:
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
                    on_answered=advance,
                )
            ]


class _named:
    """Put the stage's name before what a user has to mend in it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MisconfigurationError):
            raise MisconfigurationError(f"stage {self.stage.name}: {error}") from error


def _probe_hash(probe: Probe) -> list[str]:
    from soul_lightning.encoding import rows_hash

    return [probe.name, probe.role, repr(probe.template), rows_hash(probe.examples)]


def _mark(folder: Path) -> str | None:
    try:
        mark: dict[str, str] = json.loads((folder / MARK_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return mark.get("hash") if (folder / ROWS_NAME).is_file() else None


def _refuse_foreign(folder: Path) -> None:
    """An output folder may hold an earlier `restor` run, and no other run."""
    try:
        earlier = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, yaml.YAMLError):
        earlier = None
    if not (isinstance(earlier, dict) and "stages" in earlier):
        refuse_occupied(folder)
