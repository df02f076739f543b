"""`restor`: every stage an ordinary `fit`, every model asked the same questions, one comparison at the end."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from soul_lightning.cli import claim_files
from soul_lightning.cli.claim_files import confident_stages, write_claims
from soul_lightning.cli.comparing import CSV_NAME, FIGURES, write_comparison
from soul_lightning.cli.stage_runner import Asking, StageRunner, named
from soul_lightning.cli.stages import KEYS, RestorConfig, content_hash
from soul_lightning.cli.summary import versions
from soul_lightning.cli.terminal import emit
from soul_lightning.metrics.bleu import require_sacrebleu
from soul_lightning.run_folder import (
    CONFIG_NAME,
    SUMMARY_NAME,
    discarded_unless,
    new_run_folder,
    refuse_occupied,
    refuse_unwritable,
    write_summary,
    write_text,
)
from soul_lightning.scoring.answers import AnswerRow


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
    refuse_foreign(folder, KEYS, "stages")
    work = _Work(config, Asking.from_config(config.restoration), folder, recipe)
    work.check()
    rows: dict[str, list[AnswerRow]] = {stage.name: [] for stage in config.stages}
    for name in (SUMMARY_NAME, CSV_NAME, FIGURES, *claim_files.FILE_NAMES):
        for path in folder.glob(name):  # of an earlier run: it would stand beside other settings
            path.unlink()
    emit("start", command="restor", recipe=recipe, run=str(folder))
    with discarded_unless(lambda: work.finished > 0, folder):
        write_text(folder / CONFIG_NAME, yaml.safe_dump(dict(config.raw), sort_keys=False, allow_unicode=True))
        for seed in config.seeds:
            for name, answers in work.run(seed).items():
                rows[name] += answers
    numbers = write_comparison(folder, rows, config)
    claims = write_claims(folder, rows, work.probabilities, config, recipe)
    summary = {
        **numbers,
        **claims,
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
        self.runner = StageRunner(config.fit, asking, folder, recipe, config.seeds[0])
        self.finished = 0
        self.probabilities: dict[str, dict[tuple[int, str, int], float]] = {
            name: {} for name in confident_stages(config)
        }

    def check(self) -> None:
        """Parse every stage's configuration before the first is trained."""
        if self.config.bleu:
            require_sacrebleu()
        for stage in self.config.stages:
            with named(f"stage {stage.name}"):
                self.runner.check(stage)

    def run(self, seed: int) -> dict[str, list[AnswerRow]]:
        """Every stage for one seed; the answers of each model."""
        models: dict[str, str] = {}
        hashes: dict[str, str] = {}
        rows = {}
        for number, stage in enumerate(self.config.stages, start=1):
            started, label = time.monotonic(), f"[{number}/{len(self.config.stages)}] {stage.name}, seed {seed}"
            with named(f"stage {stage.name}"):
                stage_hash = hashes[stage.name] = self.runner.hash(stage, seed, hashes)
                model = models[stage.name] = self.runner.model(stage, seed, models, stage_hash, label)
                probes = self.runner.probes(seed, model)
                rows[stage.name] = self.runner.answers(stage, seed, model, stage_hash, probes, label)
                if stage.name in self.probabilities:
                    self.probabilities[stage.name] |= self.runner.probabilities(model, probes, seed)
            self.finished += 1
            emit(
                "run",
                name=stage.name,
                seed=seed,
                number=self.finished,
                of=len(self.config.stages) * len(self.config.seeds),
                run_seconds=round(time.monotonic() - started, 3),
            )
        return rows


def refuse_foreign(folder: Path, keys: Collection[str], telling: str) -> None:
    """An output folder may hold an earlier run of the same command, and no other run.

    Args:
        folder: The output folder.
        keys: Everything that a configuration of the command can have.
        telling: The one that it always has.

    Raises:
        MisconfigurationError: It holds another run.
    """
    refuse_unwritable(folder)
    try:
        earlier = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, yaml.YAMLError):
        earlier = None
    if not (isinstance(earlier, dict) and telling in earlier and set(earlier) <= set(keys)):
        refuse_occupied(folder)
