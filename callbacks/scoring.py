"""What the callbacks of one number a row share: other models beside the one that trains, rows in files, one table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from rich.console import Console

from soul_lightning.callbacks.base import EVALUATIONS, Metrics, ProbeCallback
from soul_lightning.callbacks.other_models import ROWS_FILES, ask_other_model, check_model_names
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.networks.loading import resolve_source
from soul_lightning.progress import labelled
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.evaluation import EvaluationSection, evaluation_table
from soul_lightning.reports.findings import CONFIDENCE, Finding
from soul_lightning.reports.loggers import log_beside
from soul_lightning.scoring.measured_rows import (
    MeasuredRow,
    RowFormat,
    Value,
    check_measured,
    probe_hash,
    read_measured,
    write_measured,
)
from soul_lightning.scoring.scored_model import ScoredModel

BEFORE, AFTER, EVALUATED = "before", "after", "model"
"""Columns of the model before training, of the one that trains, and of the one that is only evaluated."""
REFERENCE = "retain-only"
"""The model that never saw what is to be forgotten."""
ORIGINAL = "original"
"""The model before unlearning, where it is not the one that trains."""


class ScoringCallback(ProbeCallback):
    """Measures rows of probes, of several models alike, and makes metrics of the rows.

    A subclass says which probes it needs (`select`), what is measured of each row (`score`), and which metrics follow
    from the rows of one model beside those of others (`summarize`). Because metrics follow from rows alone, a file of
    rows stands for the model that it was measured on.

    Rows are written to `rows/NAME_MODEL.jsonl` (or `.parquet`) in the run's folder. At the end one table of all these
    callbacks of a Trainer is printed.

    Args:
        name: The metrics' group, the files' prefix, and the key of this callback's state; two of a kind need different
            names.
        models: Models to put beside the one that trains, by name: Hugging Face folders (or `packaged:NAME`), or rows
            files that this callback wrote in another run. `retain-only` is the model that never saw what is forgotten.
        rows: Format of the rows files; none writes none.
        report: Take part in the table.
        token_budget: Most tokens in a batch of the teacher-forced pass, padding included.
        max_tokens: Longer rows are cut on the right.
        **settings: See `ProbeCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    keeps_before = False
    """Whether metrics need the model before training even where `before_training` is off."""
    confidence = CONFIDENCE
    """Of the intervals of findings; all that one callback finds holds at it together."""

    def __init__(
        self,
        name: str,
        models: dict[str, str] | None = None,
        rows: RowFormat | None = "jsonl",
        report: bool = True,
        token_budget: int = 2048,
        max_tokens: int = 512,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        check_model_names(type(self).__name__, models or {}, (BEFORE, AFTER, EVALUATED))
        if rows not in ("jsonl", "parquet", None):
            raise MisconfigurationError(f"{type(self).__name__}: rows must be jsonl, parquet or null, got {rows!r}")
        if token_budget < 1 or max_tokens < 2:
            raise MisconfigurationError(
                f"{type(self).__name__}: token_budget must be >= 1 and max_tokens >= 2, got {token_budget} and "
                f"{max_tokens}"
            )
        self.models = dict(models or {})
        self.rows = rows
        self.report = report
        self.token_budget = token_budget
        self.max_tokens = max_tokens
        self.measured: dict[str, list[MeasuredRow]] = {}
        self.levels: dict[str, Metrics] = {}
        self._before: list[MeasuredRow] = []
        self._known_others: dict[str, dict[str, Any]] = {}
        self._hashes: dict[str, str] = {}
        self._current = AFTER

    def add_reference(self, reference: str | None) -> None:
        """Put the model that never saw what is forgotten among the models, as `retain-only`.

        Args:
            reference: A Hugging Face folder or a rows file; none changes nothing.

        Raises:
            MisconfigurationError: There is one already.
        """
        if reference is not None and REFERENCE in self.models:
            raise MisconfigurationError(
                f"{type(self).__name__}: reference={reference!r} and models.{REFERENCE}={self.models[REFERENCE]!r} say "
                f"the same thing; give one of them"
            )
        if reference is not None:
            self.models[REFERENCE] = reference

    def compare_with(self, reference: str | None, original: str | None) -> None:
        """Take the models that an audit names, where the configuration names none.

        Args:
            reference: The model that never saw what is forgotten.
            original: The model before unlearning; most callbacks have no use for it.
        """
        if REFERENCE not in self.models:
            self.add_reference(reference)

    def finding(self, measure: str, value: Interval, rows: Sequence[MeasuredRow], **about: Any) -> Finding:
        """A finding of this callback.

        Args:
            measure: See `Finding.measure`.
            value: The number.
            rows: What it is of.
            about: `question` and `verdict`.
        """
        return Finding(
            source=self.name,
            measure=measure,
            value=value,
            confidence=self.confidence,
            examples=len(rows),
            subjects=len({row.entity for row in rows}),
            **about,
        )

    @abstractmethod
    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """Those of `probes` that are measured.

        Raises:
            MisconfigurationError: A probe is missing.
        """

    @abstractmethod
    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """What is measured of each row of `self.probes` under `model`."""

    @abstractmethod
    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """The metrics of a model.

        Args:
            rows: What `score` gave of it.
            others: The same of the other models, by name.
        """

    def row_settings(self) -> dict[str, object]:
        """Settings without which numbers cannot be compared."""
        return {"max_tokens": self.max_tokens}

    def table_levels(self) -> Mapping[str, Metrics]:
        """What the table shows, by model: all metrics, where a subclass does not leave out those that only fill it."""
        return self.levels

    def row(self, probe: Probe, example: Example, **values: Value | None) -> MeasuredRow:
        """A row of `example`, which stands in `probe`; values that are `None` or no number are left out."""
        known = {name: value for name, value in values.items() if value is not None and value == value}
        return MeasuredRow(
            probe.name, probe.role, example.index, example.subject or "", self._hashes[probe.name], known
        )

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the probes, read rows files, and refuse folders that hold no model."""
        kind = type(self).__name__
        self._current = EVALUATED if trainer.state.fn in EVALUATIONS else AFTER
        self.probes = self.select(self.probes)
        names = [probe.name for probe in self.probes]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise MisconfigurationError(f"{kind} found two probes called {twice!r}; give each a name of its own")
        self._hashes = {probe.name: probe_hash(probe, **self.row_settings()) for probe in self.probes}
        self.measured = {}
        for model, source in self.models.items():
            if source.endswith(ROWS_FILES):
                named = f"{kind}: the rows file {source!r} of the {model} model"
                self.measured[model] = check_measured(read_measured(Path(source).expanduser()), self._hashes, named)
            else:
                resolve_source(source)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the other models, one at a time, and the model before training."""
        if self._current == AFTER:
            self._before = self._rows_before(trainer)
        for model, source in self.models.items():
            known = self._known_others.get(model, {})
            if model not in self.measured and known.get("of") == self._origin(source):
                self.measured[model] = [MeasuredRow.from_record(record) for record in known["rows"]]
            elif model not in self.measured:
                rank_zero_info(f"{type(self).__name__}: measuring the {model} model ({source})")
                with labelled(f"{model} model"):
                    self.measured[model] = ask_other_model(
                        trainer,
                        self.adapter,
                        source,
                        lambda adapter: self.score(ScoredModel(adapter, self.token_budget, self.max_tokens)),
                    )
        if self._current == AFTER and self._before:
            self.measured[BEFORE] = self._before
        self.levels = {model: self._summary_of(model) for model in self.measured}
        for model in self.measured:
            self._write(trainer, model)
        if trainer.global_step == 0:  # the model before training stands at step 0 of the curves themselves
            log_beside(trainer, self.name, self.beside())

    def _origin(self, source: str) -> list[Any]:
        """What the rows of another model are of."""
        return [source, self._hashes]

    def _rows_before(self, trainer: Trainer) -> list[MeasuredRow]:
        """Rows of the model before training: measured now, or kept by the checkpoint of a resumed run."""
        kind, wanted = type(self).__name__, self.before_training or self.keeps_before
        if trainer.global_step == 0:
            return self.score(self._model(trainer)) if wanted else []
        if wanted and not self._before:
            rank_zero_warn(
                f"{kind}: the checkpoint at step {trainer.global_step} holds no rows of the model before training, so "
                f"there is nothing to compare with it"
            )
        return check_measured(self._before, self._hashes, f"{kind}: the checkpoint") if self._before else []

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Measure the model as it stands, and write its rows."""
        at_start = self._current == AFTER and trainer.global_step == 0 and BEFORE in self.measured
        self.measured[self._current] = self.measured[BEFORE] if at_start else self.score(self._model(trainer))
        if not at_start:
            self._write(trainer, self._current)
        metrics = self._summary_of(self._current)
        self.levels[self._current] = metrics
        return metrics

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table of all such callbacks, after the last of them."""
        # Under Trainer.validate each of them measures and finishes before the next one has any number.
        reported = [
            callback
            for callback in getattr(trainer, "callbacks", [])
            if isinstance(callback, ScoringCallback) and callback.report
        ]
        if not reported or reported[-1] is not self or not self.levels or not trainer.is_global_zero:
            return
        console = Console()
        console.print(evaluation_table([EvaluationSection(each.name, each.table_levels()) for each in reported]))
        for sentence in (note for callback in reported for note in callback.notes()):
            console.print(sentence, markup=False, highlight=False)

    def _model(self, trainer: Trainer) -> ScoredModel:
        return ScoredModel.in_training(trainer, self.adapter, self.token_budget, self.max_tokens)

    def metrics_of(self, model: ScoredModel) -> Metrics:
        """The metrics of a changed copy of the measured model, beside the same other models."""
        asked = replace(model, token_budget=self.token_budget, max_tokens=self.max_tokens)
        return self.summarize(self.score(asked), self._beside(self._current))

    def _summary_of(self, model: str) -> Metrics:
        return self.summarize(self.measured[model], self._beside(model))

    def _beside(self, model: str) -> dict[str, list[MeasuredRow]]:
        hidden = (model, self._current, *([] if model == self._current else [BEFORE]))
        return {name: rows for name, rows in self.measured.items() if name not in hidden}

    def _write(self, trainer: Trainer, model: str) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every rank: it is broadcast
        if self.rows is not None and trainer.is_global_zero:
            write_measured(folder / "rows" / f"{self.name}_{model}.{self.rows}", self.measured[model], model)

    def _grouped_levels(self, levels: Mapping[str, Metrics]) -> Metrics:
        return self._grouped(
            {
                f"{model}/{name}": value
                for model, metrics in levels.items()
                if model != self._current
                for name, value in metrics.items()
            }
        )

    def beside(self) -> Mapping[str, Metrics]:
        """The metrics of the other models."""
        return {model: metrics for model, metrics in self.levels.items() if model not in (BEFORE, self._current)}

    def summary(self) -> Metrics:
        """The last metrics, and those of the models beside."""
        return {**self._grouped_levels(self.levels), **self.metrics}

    def state_dict(self) -> dict[str, Any]:
        """The rows of the model before training too, for that model has moved, and of the others, to ask them once."""
        others = {
            model: {"of": self._origin(source), "rows": [row.record() for row in self.measured[model]]}
            for model, source in self.models.items()
            if model in self.measured
        }
        return super().state_dict() | {"before": [row.record() for row in self._before], "others": others}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._before = [MeasuredRow.from_record(record) for record in state_dict.get("before", [])]
        self._known_others = dict(state_dict.get("others", {}))
