"""Logit analysis: where do the true, the false and unrelated answers stand in the model's eyes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from random import Random
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import numbers, of_role
from soul_lightning.callbacks.scoring import ScoringCallback
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.logit_analysis import logit_analysis
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel

KINDS = ("correct", "corrupted", "random")
ROLES = ("corrupted", "control")


class LogitAnalysis(ScoringCallback):
    """Mean token log-probability of correct, corrupted and random answers to the same questions (RESTOR).

    Greedy answers say which answer wins; this says by how much. Of each question the true answer is scored, the answer
    that the corruption taught (the mean over several), and answers drawn from other questions of the same relation. For
    the corrupted people `correct`, `corrupted` and `random` are means over questions, in nats a token, `…_margin` how
    much likelier the correct answer is, and `correct_first` the share of questions where it is the likeliest; control
    people stand under `control_…`. The distributions reach TensorBoard as histograms. Needs probes of kind `question`
    and role `corrupted`. A kind of answer that a question lacks is left out for all: false answers where the corruption
    is prose, random ones where a relation has a single answer.

    Args:
        name: The metrics' group; two of a kind need different names.
        random_answers: So many answers are drawn for each question; fewer where the relation has fewer.
        **settings: See `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    def __init__(self, name: str = "logits", random_answers: int = 4, **settings: Any) -> None:
        super().__init__(name, **settings)
        if random_answers < 1:
            raise MisconfigurationError(f"LogitAnalysis: random_answers must be >= 1, got {random_answers}")
        self.random_answers = random_answers

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """The questions about corrupted and control people."""
        found = [probe for probe in probes if probe.kind == "question" and probe.role in ROLES and not probe.rows_of]
        if not any(probe.role == "corrupted" for probe in found):
            there = ", ".join(sorted({f"{probe.role} ({probe.kind})" for probe in probes})) or "none"
            raise MisconfigurationError(
                f"LogitAnalysis needs a probe of kind question and role corrupted (there are: {there}); give the "
                f"questions about what was corrupted, or remove the callback"
            )
        return found

    def row_settings(self) -> dict[str, object]:
        """The draw of random answers too."""
        return super().row_settings() | {"random_answers": self.random_answers, "seed": self.seed}

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """Each kind of answer to each question, in one pass a probe."""
        rows = []
        for probe in self.probes:
            texts: list[Example] = []
            kinds: list[tuple[int, str]] = []
            for row in probe.examples:
                answers = {"correct": [row.answer], "corrupted": row.perturbed, "random": self._others(probe, row)}
                for kind, given in answers.items():
                    for answer in given:
                        texts.append(replace(row, answer=answer, index=len(texts)))
                        kinds.append((row.index, kind))
            scores = model.score_texts(texts, probe)
            means: dict[tuple[int, str], list[float]] = {}
            for number, key in enumerate(kinds):
                if number in scores:
                    means.setdefault(key, []).append(-scores[number].mean_nll)
            for row in probe.examples:
                found = {kind: means[row.index, kind] for kind in KINDS if (row.index, kind) in means}
                values = {kind: sum(each) / len(each) for kind, each in found.items()}
                rows.append(self.row(probe, row, **values))
        return rows

    def _others(self, probe: Probe, row: Example) -> list[str]:
        """Answers to other questions of the row's relation that are neither true nor false for it."""
        own = {answer.casefold() for answer in (*row.accepted, *row.perturbed)}
        known = {other.answer for other in probe.examples if other.relation == row.relation}
        unrelated = sorted(answer for answer in known if answer.casefold() not in own)
        rng = Random(f"{self.seed}/{probe.name}/{row.index}")
        return rng.sample(unrelated, min(self.random_answers, len(unrelated)))

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """Means, margins and how often the truth is likeliest."""
        metrics: Metrics = {}
        for role, prefix in (("corrupted", ""), ("control", "control_")):
            own = [row for row in of_role(rows, role) if "correct" in row.values]  # max_tokens may have cut it away
            columns = {kind: numbers(own, kind) for kind in KINDS}
            whole = {kind: column for kind, column in columns.items() if len(column) == len(own)}
            if own:
                metrics |= {f"{prefix}{name}": value for name, value in asdict(logit_analysis(**whole)).items()}
        return metrics

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """The metrics, and the distributions for TensorBoard."""
        metrics = super().measure(trainer, pl_module)
        rows = of_role(self.measured[self._current], "corrupted")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for kind in KINDS:
                    values = numbers(rows, kind)
                    if values:
                        logger.experiment.add_histogram(
                            f"{self.name}/{kind}_answers", torch.tensor(values), trainer.global_step
                        )
        return metrics
