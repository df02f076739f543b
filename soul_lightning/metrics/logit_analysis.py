"""Logit analysis: how likely a model finds the true, the corrupted and unrelated answers (RESTOR, Rezaei et al. 2025).

Greedy answers say which answer wins; these numbers say by how much, and so whether unlearning took the corruption away
or only hid it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array

Column = Sequence[float] | Array


@dataclass(frozen=True, slots=True)
class LogitAnalysisSummary:
    """Means over questions, in nats a token; none where answers of that kind were not given.

    Attributes:
        correct: Mean token log-probability of the correct answers.
        corrupted: The same of the answers that the corruption taught.
        random: The same of random answers to other questions of the same relation.
        corrupted_margin: `correct` − `corrupted`: above 0 where the truth is preferred.
        random_margin: `correct` − `random`: near 0 where the model knows nothing any more.
        correct_first: Share of questions whose correct answer is likelier than every other that was given; a tie does
            not count.
    """

    correct: float
    corrupted: float | None
    random: float | None
    corrupted_margin: float | None
    random_margin: float | None
    correct_first: float | None


def logit_analysis(
    correct: Column, corrupted: Column | None = None, random: Column | None = None
) -> LogitAnalysisSummary:
    """Means, margins, and how often the correct answer is the likeliest.

    Args:
        correct: [rows] mean token log-probability of each question's correct answer, in nats.
        corrupted: [rows] the same of its corrupted answer, where it is known.
        random: [rows] the same, averaged over several random answers of the question's relation.

    Raises:
        MisconfigurationError: There is no row, the lengths differ, or a log-probability is above 0 or not finite.

    Example:
        >>> summary = logit_analysis(correct=[-1.0, -2.0], corrupted=[-0.5, -3.0], random=[-4.0, -4.0])
        >>> summary.corrupted_margin, summary.random_margin, summary.correct_first
        (0.25, 2.5, 0.5)
    """
    given = {"correct": correct, "corrupted": corrupted, "random": random}
    rows = _checked({kind: column for kind, column in given.items() if column is not None})
    means = {kind: float(column.mean()) for kind, column in rows.items()}
    others = [rows[kind] for kind in ("corrupted", "random") if kind in rows]
    return LogitAnalysisSummary(
        correct=means["correct"],
        corrupted=means.get("corrupted"),
        random=means.get("random"),
        corrupted_margin=means["correct"] - means["corrupted"] if "corrupted" in means else None,
        random_margin=means["correct"] - means["random"] if "random" in means else None,
        correct_first=float((rows["correct"] > np.max(others, axis=0)).mean()) if others else None,
    )


class LogitMargins(RowMetric):
    """`logit_analysis` of all rows of all processes; a kind of answers is given with every row or with none.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = LogitMargins()
        >>> metric.update(correct=[-1.0], corrupted=[-0.5])
        >>> metric.update(correct=[-2.0], corrupted=[-3.0])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'correct': -1.5, 'corrupted': -1.75, 'corrupted_margin': 0.25, 'correct_first': 0.5}
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("correct", "corrupted", "random", **settings)

    def update(
        self, correct: Column | Tensor, corrupted: Column | Tensor | None = None, random: Column | Tensor | None = None
    ) -> None:
        """Add questions.

        Args:
            correct: [rows] mean token log-probability of each question's correct answer, in nats.
            corrupted: [rows] the same of its corrupted answer.
            random: [rows] the same, averaged over several random answers.

        Raises:
            MisconfigurationError: The lengths differ.
        """
        given = {"correct": correct, "corrupted": corrupted, "random": random}
        self.append(**{kind: column for kind, column in given.items() if column is not None})

    def compute(self) -> dict[str, Tensor]:
        """The fields of `LogitAnalysisSummary` that are known, [] float64 each.

        Raises:
            MisconfigurationError: There is no row, a kind of answers was given with some rows only, or a
                log-probability is above 0 or not finite.
        """
        rows = {kind: self.rows(kind) for kind in self.columns}
        summary = logit_analysis(rows.pop("correct"), **{kind: column for kind, column in rows.items() if len(column)})
        return {name: self._number(value) for name, value in asdict(summary).items() if value is not None}


def _checked(columns: dict[str, Column]) -> dict[str, Array]:
    rows = {kind: np.asarray(column, dtype=np.float64) for kind, column in columns.items()}
    lengths = {kind: len(column) for kind, column in rows.items()}
    if not lengths["correct"] or len(set(lengths.values())) > 1:
        raise MisconfigurationError(
            f"logit analysis needs one or more rows and the same of each kind, got "
            f"{', '.join(f'{length} of {kind}' for kind, length in lengths.items())} answers; leave out rows that lack "
            f"one, or the kind"
        )
    for kind, column in rows.items():
        unusable = column[~(np.isfinite(column) & (column <= 0))]
        if len(unusable):
            raise MisconfigurationError(
                f"log-probabilities are finite and at most 0, and the {kind} answers have {unusable[0]}; give means of "
                f"log p over an answer's tokens, in nats"
            )
    return rows
