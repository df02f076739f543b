"""`audit`: one callback after another asks a model, what is done is kept, and all of it becomes a report."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from soul_lightning.callbacks.attack import AttackCallback
from soul_lightning.callbacks.base import ProbeCallback
from soul_lightning.callbacks.quantization_attack import QuantizationAttack
from soul_lightning.callbacks.restoration import Restoration
from soul_lightning.callbacks.scoring import ScoringCallback
from soul_lightning.cli.audit_config import asked_config
from soul_lightning.cli.audit_files import (
    AUDIT_COMMENT,
    files_hash,
    has_parts,
    read_part,
    refuse_foreign_folder,
    rows_or_model,
    write_part,
)
from soul_lightning.cli.fitting import FitCLI
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.cli.stages import content_hash, named_files, package_hash
from soul_lightning.cli.summary import config_hash, versions
from soul_lightning.cli.terminal import emit, note
from soul_lightning.exceptions import MisconfigurationError, RunInterrupted
from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.audit_files import write_audit
from soul_lightning.run_folder import CONFIG_NAME, discarded_unless, new_run_folder, write_text
from soul_lightning.scoring.time_limit import OutOfTime, time_limit


@dataclass(frozen=True)
class Audited:
    """The models of an audit: Hugging Face folders or hub names.

    Attributes:
        model: The one that is asked.
        reference: One that never saw what is to be forgotten; or the folder of its own audit, whose rows are read.
        original: The model before unlearning.
    """

    model: str
    reference: str | None = None
    original: str | None = None

    @property
    def sources(self) -> dict[str, str]:
        """Those that were named, by role."""
        named = {"model": self.model, "reference": self.reference, "original": self.original}
        return {role: source for role, source in named.items() if source is not None}


def audit(
    config: Mapping[str, Any],
    recipe: str,
    overrides: Sequence[str],
    audited: Audited,
    output: Path | None = None,
    minutes: float | None = None,
    seed: int = 0,
) -> tuple[Path, AuditReport]:
    """Ask a model everything that the configuration's callbacks ask.

    Args:
        config: What `audit_config` gave.
        recipe: What the audit is called by.
        overrides: Dotted settings over them, as command line arguments.
        audited: The models.
        output: The output folder; that of an earlier audit is continued, none makes a new one.
        minutes: No part begins, or goes on, after so many; none for no limit.
        seed: See `asked_config`.

    Returns:
        The output folder and the report, which is written there too.

    Raises:
        MisconfigurationError: Something has to be mended before anything can be asked; no new folder stays behind.
        RunInterrupted: By SIGTERM; what is done is kept.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes
    folder = output or new_run_folder("audit")
    refuse_foreign_folder(folder, audited.sources.values())
    hashes = {role: files_hash(source) for role, source in audited.sources.items()}
    with discarded_unless(lambda: has_parts(folder), folder):
        emit("start", command="audit", recipe=recipe, run=str(folder), **audited.sources)
        work = _Work(asked_config(config, audited.model, seed), overrides, audited, hashes, folder, recipe)
        parts = work.parts(end)
        report = AuditReport(
            model=audited.model,
            hash_before=hashes["model"],
            hash_after=files_hash(audited.model),
            reference=audited.reference,
            original=audited.original,
            config=recipe,
            config_hash=config_hash(work.config_text),
            seed=seed,
            versions=versions(),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            minutes_allowed=minutes,
            minutes_used=sum(part.seconds for part in parts) / 60,
            parts=parts,
        )
        write_audit(folder, report)
    if not report.is_unchanged:
        raise RuntimeError(f"the files of the audited model {audited.model!r} are not the same as before the audit")
    return folder, report


class _Work:
    """The callbacks of an audit, and what became of each."""

    def __init__(
        self,
        config: dict[str, Any],
        overrides: Sequence[str],
        audited: Audited,
        hashes: dict[str, str],
        folder: Path,
        recipe: str,
    ) -> None:
        self._folder = folder
        self._audited = audited
        self._ran: set[str] = set()
        (folder / CONFIG_NAME).unlink(missing_ok=True)  # of an earlier audit: it is written anew
        with as_sentences(), tempfile.TemporaryDirectory() as temporary:
            settings = Path(temporary, CONFIG_NAME)
            settings.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
            self._cli = FitCLI(["--config", str(settings), *overrides], recipe, folder)
            _ = self._cli.model.tokenizer  # a model folder without one is found before anything is asked
        self.config_text = self._cli.config_text
        raw = yaml.safe_load(self.config_text)
        listed = self._cli.config_init.trainer.callbacks or []
        self._callbacks = [each for each in listed if isinstance(each, ProbeCallback)]
        if not self._callbacks:
            raise MisconfigurationError(
                "the configuration has no callback that asks a model anything; list some under trainer.callbacks, or "
                "leave them out for the packaged battery"
            )
        for callback in self._callbacks:
            if isinstance(callback, ScoringCallback):
                callback.report = False  # one report takes the place of all tables
                reference = audited.reference and rows_or_model(audited.reference, callback.name)
                callback.compare_with(reference, audited.original)
            elif isinstance(callback, Restoration):
                callback.reports = False
        same = [raw["data"], raw["model"], raw["seed_everything"], hashes, package_hash(), versions()]
        settings_of = {
            callback.name: own
            for callback, own in zip(listed, raw["trainer"]["callbacks"], strict=True)
            if isinstance(callback, ProbeCallback)
        }
        self._hashes = {}
        for callback in self._callbacks:
            own = [settings_of[callback.name]]
            if isinstance(
                callback, QuantizationAttack
            ):  # the others measure with it, and their numbers are in its part
                own += [settings_of[each.name] for each in self._callbacks if not isinstance(each, AttackCallback)]
            self._hashes[callback.name] = content_hash(own, *same, named_files([own, raw["data"]], folder))
        write_text(folder / CONFIG_NAME, f"{AUDIT_COMMENT} of {audited.model}\n{self.config_text}")

    def parts(self, end: float | None) -> list[AuditPart]:
        """Every part: from an earlier audit in this folder, asked now, or why it was not.

        Args:
            end: By `time.monotonic`; none for no limit.
        """
        done = []
        for number, callback in enumerate(self._callbacks, start=1):
            label = f"[{number}/{len(self._callbacks)}] {callback.name}"
            part = read_part(self._folder, callback.name, self._hashes[callback.name])
            if part is not None:
                note(f"{label}: asked before, {part.seconds:.0f} s")
            else:
                note(f"{label}: {type(callback).__name__} …")
                part = self._ask(callback, end)
                note(f"{label}: {part.not_run or f'done, {part.seconds:.0f} s'}")
            done.append(part)
            emit(
                "evaluation",
                run=str(self._folder),
                name=part.name,
                kind=part.kind,
                metrics=part.metrics,
                not_run=part.not_run,
            )
            self._ran.update([part.name] if part.not_run is None else [])
        return done

    def _beside(self, callback: ProbeCallback) -> list[ProbeCallback]:
        """The callbacks that measure with this one what they have measured before: those that no attack are."""
        if not isinstance(callback, QuantizationAttack):
            return []
        return [each for each in self._callbacks if each.name in self._ran and not isinstance(each, AttackCallback)]

    def _ask(self, callback: ProbeCallback, end: float | None) -> AuditPart:
        name, kind, started = callback.name, type(callback).__name__, time.monotonic()
        if end is not None and started > end:
            return AuditPart(name, kind, not_run="the minutes were used up; run the same command again to go on")
        trainer: Any = self._cli.trainer  # its callbacks are set by a connector, unknown to type checkers
        trainer.callbacks = [*self._beside(callback), callback]
        try:
            with as_sentences(), time_limit(None if end is None else end - started, lambda: trainer.received_sigterm):
                trainer.validate(self._cli.model, datamodule=self._cli.datamodule, verbose=False)
        except MisconfigurationError as error:
            return AuditPart(name, kind, not_run=" ".join(str(error).split()))
        except OutOfTime:
            if trainer.received_sigterm:
                raise RunInterrupted(
                    signal.SIGTERM, f"stopped by SIGTERM; give --output {self._folder} to go on with what is done"
                ) from None
            return AuditPart(
                name,
                kind,
                not_run="it was not done when the minutes were used up; run the same command again, with more",
            )
        seconds = time.monotonic() - started
        part = AuditPart(
            name,
            kind,
            callback.summary(),
            callback.findings(),
            seconds,
            callback.curves(),
            callback.bars(),
            callback.notes(),
        )
        write_part(self._folder, part, self._hashes[name])
        return part
