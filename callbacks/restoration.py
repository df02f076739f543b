"""Restoration at epoch ends: does the original knowledge come back (RESTOR, Rezaei et al. 2025)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from soul_lightning.callbacks.base import EVALUATIONS, Metrics, ProbeCallback
from soul_lightning.callbacks.other_models import ask_other_model, check_model_names
from soul_lightning.callbacks.restoration_report import RestorationReport
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bleu import require_sacrebleu, restoration_bleu
from soul_lightning.metrics.judge import Judge
from soul_lightning.metrics.restoration import RestorationComparison, compare_restoration
from soul_lightning.metrics.restoration_draws import ModelScores
from soul_lightning.networks.loading import resolve_source
from soul_lightning.progress import labelled
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.reports.loggers import log_beside
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.answers import AnswerRow, answer_probe, check_rows, read_rows, row_from
from soul_lightning.scoring.evaluation import isolated_evaluation
from soul_lightning.scoring.scored_model import ScoredModel

CLEAN, CORRUPTED, BASELINE, UNLEARNED = "clean", "corrupted", "retain-only", "unlearned"
TRUE, FALSE, CONTROL = "accuracy_corrupted_people", "false_share", "accuracy_control"


class Restoration(ProbeCallback):
    """Asks questions about corrupted and about control people, and compares the answers with those of other models.

    Restoration is (acc − acc_corrupted) / (acc_clean − acc_corrupted) on the corrupted people. Read it with the share
    of false answers, with the accuracy on control people, and with a model that was trained on retain alone: that
    restores too. Needs probes of kind `question` and role `corrupted`; those of role `control` are used where there
    are any. At the end of the fit a table is printed; rows, CSV and a figure are written to the run's folder.

    Args:
        models: Models to compare with, by name: Hugging Face folders (or `packaged:NAME`), or rows files (`*.jsonl`)
            that this callback wrote in another run. `clean` is the model before corruption, without which there is no
            restoration; `retain-only` is the baseline of the paired comparison; `corrupted` is the model before
            training unless it is given.
        judge: Compares an answer with the true and the false ones.
        max_new_tokens: Most tokens of an answer.
        batch_size: Questions answered at once.
        reports: Print the table, and write rows, CSV and figure.
        name: The metrics' group and the files' prefix; two of a kind need different names.
        bleu: Log also BLEU of the answers, 0 to 100, and its restoration: for answers of several words, such as
            translations. Needs the extra `eval`.
        **settings: See `ProbeCallback`.

    Raises:
        MisconfigurationError: A setting is out of range, or BLEU is asked for and sacrebleu is not installed.
    """

    charts = (
        Chart("Forget against retain", "false answers about corrupted people", FALSE),
        Chart("Forget against retain", "true answers about control people", CONTROL),
        Chart("Restoration", "restoration (0: corrupted, 1: clean)", "restoration"),
        Chart("Restoration", "true answers about corrupted people", TRUE),
    )
    headlines = (
        Headline("restoration"),
        Headline(TRUE, "true answers"),
        Headline(FALSE, "false answers", "forgotten", "0: none is left"),
        Headline(CONTROL, "control answers", "kept", "true, control people"),
    )

    def __init__(
        self,
        models: dict[str, str] | None = None,
        judge: Judge | None = None,
        max_new_tokens: int = 16,
        batch_size: int = 32,
        reports: bool = True,
        name: str = "restoration",
        bleu: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        check_model_names("Restoration", models or {}, (UNLEARNED,))
        if max_new_tokens < 1 or batch_size < 1:
            raise MisconfigurationError(
                f"Restoration: max_new_tokens and batch_size must be >= 1, got {max_new_tokens} and {batch_size}"
            )
        if bleu:
            require_sacrebleu()
        self.models = dict(models or {})
        self.judge = judge or Judge()
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.reports = reports
        self.bleu = bleu
        self.comparison: RestorationComparison | None = None
        self._rows: dict[str, list[AnswerRow]] = {}
        self._before: list[AnswerRow] = []
        self._known_others: dict[str, dict[str, Any]] = {}
        self._levels: dict[str, Metrics] = {}
        self._report: RestorationReport | None = None

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the questions, read rows files, and refuse folders that hold no model."""
        asked = [
            probe
            for probe in self.probes
            if probe.kind == "question" and probe.role in ("corrupted", "control") and not probe.rows_of
        ]
        if not any(probe.role == "corrupted" and probe.examples for probe in asked):
            there = ", ".join(sorted({f"{probe.role} ({probe.kind})" for probe in self.probes})) or "none"
            raise MisconfigurationError(
                f"Restoration needs a probe of kind question and role corrupted (there are: {there}); give the "
                f"questions about the corrupted people, or remove the callback"
            )
        self.probes = asked
        self._rows = {}
        for model, source in self.models.items():
            if source.endswith(".jsonl"):
                self._rows[model] = self._checked(model, read_rows(Path(source).expanduser()), source)
            else:
                resolve_source(source)

    def _checked(self, model: str, rows: Sequence[AnswerRow], source: str) -> list[AnswerRow]:
        named = f"the {model} model's rows ({source})"
        return [replace(row, model=model, seed=0) for row in check_rows(rows, self.probes, named)]

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the other models answer, one at a time, and keep the answers of the model before training."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every rank: it is broadcast
        self._report = RestorationReport(folder, self.name) if self.reports and trainer.is_global_zero else None
        if CORRUPTED not in self.models and trainer.state.fn not in EVALUATIONS:
            self._rows[CORRUPTED] = self._answers_before_training(trainer)
        for model, source in self.models.items():
            known = self._known_others.get(model, {})
            if model not in self._rows and known.get("of") == source:
                rows = [row_from(record) for record in known["rows"]]
                self._rows[model] = self._checked(model, rows, "from the checkpoint")
            elif model not in self._rows:
                self._rows[model] = self._answer_folder(trainer, model, source)
        order = [CLEAN, CORRUPTED, *self.models]
        self._rows = {model: self._rows[model] for model in dict.fromkeys(order) if model in self._rows}
        if self._report is not None:
            self._report.write_rows(self._rows)
        self._levels = {}
        if self._rows:
            comparison = compare_restoration(self._rows, seed=self.seed)
            if comparison.note:
                rank_zero_info(f"Restoration: {comparison.note}")
            self._levels = {
                model: _levels(scores) | self._bleu(self._rows, model) for model, scores in comparison.scores.items()
            }
        if trainer.global_step == 0:
            log_beside(trainer, self.name, self.beside())

    def _answers_before_training(self, trainer: Trainer) -> list[AnswerRow]:
        if trainer.global_step == 0:
            self._before = self._answer_current(trainer, CORRUPTED)
        elif not self._before:
            raise MisconfigurationError(
                f"Restoration: the checkpoint at step {trainer.global_step} holds no answers of the model before "
                f"training; name that model, or its rows file, in models.{CORRUPTED}"
            )
        return self._checked(CORRUPTED, self._before, "from the checkpoint")

    def _answer_current(self, trainer: Trainer, model: str) -> list[AnswerRow]:
        with isolated_evaluation(self.adapter.network, trainer):
            return self._answer(self.adapter, model)

    def _answer_folder(self, trainer: Trainer, model: str, source: str) -> list[AnswerRow]:
        rank_zero_info(f"Restoration: the {model} model answers ({source})")
        return ask_other_model(trainer, self.adapter, source, lambda adapter: self._answer(adapter, model))

    def _answer(self, adapter: CausalLMAdapter, model: str) -> list[AnswerRow]:
        answers: list[AnswerRow] = []
        with labelled(f"{model} model"):
            for probe in self.probes:
                answers += answer_probe(
                    adapter,
                    probe,
                    self.judge,
                    model=model,
                    max_new_tokens=self.max_new_tokens,
                    batch_size=self.batch_size,
                )
        return answers

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Answer, compare, and write the rows."""
        if trainer.global_step == 0 and self._before:
            current = [replace(row, model=UNLEARNED) for row in self._before]
        else:
            current = self._answer_current(trainer, UNLEARNED)
            if self._report is not None:
                self._report.write_rows({UNLEARNED: current})
        self._rows[UNLEARNED] = current
        self.comparison = compare_restoration(self._rows, seed=self.seed)
        return _measured(self.comparison) | self._bleu(self._rows, UNLEARNED)

    def metrics_of(self, model: ScoredModel) -> Metrics:
        """The metrics of a changed copy of the measured model, beside the same other models."""
        with model.isolation():
            rows = self._rows | {UNLEARNED: self._answer(model.adapter, UNLEARNED)}
        return _measured(compare_restoration(rows, seed=self.seed)) | self._bleu(rows, UNLEARNED)

    def _bleu(self, rows: Mapping[str, Sequence[AnswerRow]], model: str) -> Metrics:
        return restoration_bleu(rows, cut_at=self.judge.cut_at)[model] if self.bleu else {}

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table; write CSV, figure and sample answers."""
        if self._report is not None and self.comparison is not None:
            before = self._rows.get(CORRUPTED, self._rows[UNLEARNED])
            self._report.finish(self.comparison, before, self._rows[UNLEARNED], trainer, self.seed)

    def beside(self) -> Mapping[str, Metrics]:
        """The levels of the models compared with."""
        return self._levels

    def summary(self) -> Metrics:
        """The last metrics, and the levels of the models compared with."""
        levels = {f"{model}/{name}": value for model, found in self._levels.items() for name, value in found.items()}
        return {**self._grouped(levels), **self.metrics}

    def state_dict(self) -> dict[str, Any]:
        """The answers before training too, for that model has moved, and of the others, to ask them once."""
        others = {
            model: {"of": source, "rows": [asdict(row) for row in self._rows[model]]}
            for model, source in self.models.items()
            if model in self._rows
        }
        return super().state_dict() | {"before": [asdict(row) for row in self._before], "others": others}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._before = [row_from(record) for record in state_dict.get("before", [])]
        self._known_others = dict(state_dict.get("others", {}))


def _levels(scores: ModelScores) -> Metrics:
    return {
        TRUE: scores.accuracy_corrupted.value,
        FALSE: scores.false_share.value,
        CONTROL: scores.accuracy_control.value if scores.accuracy_control else None,
    }


def _measured(comparison: RestorationComparison) -> Metrics:
    scores = comparison.scores[UNLEARNED]
    restoration = scores.restoration
    metrics = _levels(scores) | {
        "restoration": restoration.value if restoration else None,
        "restoration_low": restoration.low if restoration else None,
        "restoration_high": restoration.high if restoration else None,
        "restoration_known_facts": scores.restoration_known.value if scores.restoration_known else None,
    }
    difference = comparison.differences.get(UNLEARNED)
    if difference is not None:
        for name, interval in (
            ("restoration", difference.restoration),
            ("false_share", difference.false_share),
            ("accuracy_control", difference.accuracy_control),
        ):
            metrics[f"{name}_minus_{comparison.baseline}"] = interval.value if interval else None
    return metrics
