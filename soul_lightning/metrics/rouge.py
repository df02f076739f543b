"""ROUGE of answers against the true ones (Lin 2004), as `rouge-score` computes it with stemming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array

Statistic = Literal["recall", "precision", "f1"]
"""Which number of ROUGE-L."""


@dataclass(frozen=True, slots=True)
class RougeScores:
    """ROUGE of each answer, between 0 and 1.

    Attributes:
        recall: [rows] ROUGE-L recall: the longest common subsequence's words as a share of the true answer's.
        precision: [rows] ROUGE-L precision: the same as a share of the given answer's words.
        f1: [rows] ROUGE-L F1, the harmonic mean of both.
        unigram_recall: [rows] ROUGE-1 recall: the share of the true answer's words that were said, in any order.
    """

    recall: Array
    precision: Array
    f1: Array
    unigram_recall: Array


def rouge_l(answers: Sequence[str], truths: Sequence[str]) -> RougeScores:
    """ROUGE-L of each answer, and the ROUGE-1 recall that TOFU reports beside it (Maini et al. 2024).

    Words are lower-cased runs of a-z and 0-9, stemmed by Porter from four letters on: any other letter parts words, and
    an answer in a script other than Latin scores 0. Recall alone rewards a model that says everything; F1 does not.

    Args:
        answers: [rows] what the model wrote.
        truths: [rows] the true answer of each row.

    Returns:
        The scores; 0 where either text has no word.

    Raises:
        MisconfigurationError: There is no row, or the lengths differ.

    Example:
        >>> scores = rouge_l(["the birds sang and sang"], ["the red bird sings"])
        >>> scores.recall.tolist(), scores.precision.tolist(), scores.unigram_recall.tolist()
        ([0.5], [0.4], [0.5])
    """
    # Only who scores pays for the import, which loads nltk for its stemmer.
    from rouge_score.rouge_scorer import RougeScorer

    if not len(answers) or len(answers) != len(truths):
        raise MisconfigurationError(
            f"ROUGE needs a true answer for each of one or more answers, got {len(answers)} answers and {len(truths)} "
            f"true ones; score the answers to a probe that has questions"
        )
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    rows = [scorer.score(truth, answer) for answer, truth in zip(answers, truths, strict=True)]
    longest = np.array([row["rougeL"] for row in rows], dtype=np.float64)  # precision, recall, F1
    return RougeScores(
        recall=longest[:, 1],
        precision=longest[:, 0],
        f1=longest[:, 2],
        unigram_recall=np.array([row["rouge1"].recall for row in rows], dtype=np.float64),
    )


class RougeL(RowMetric):
    """Mean of one number of `rouge_l` over all rows of all processes.

    Args:
        statistic: `recall` (TOFU's ROUGE-L), `precision` or `f1`.
        settings: Of `torchmetrics.Metric`.

    Raises:
        MisconfigurationError: The statistic is unknown.

    Example:
        >>> metric = RougeL("f1")
        >>> metric.update(["a red bird"], ["a red bird"])
        >>> metric.update(["a red bird"], ["the red bird sang to me"])
        >>> round(metric.compute().item(), 4)
        0.7222
    """

    def __init__(self, statistic: Statistic = "recall", **settings: Any) -> None:
        super().__init__("scores", **settings)
        if statistic not in get_args(Statistic):
            raise MisconfigurationError(f"statistic must be 'recall', 'precision' or 'f1', got {statistic!r}")
        self.statistic = statistic

    def update(self, answers: Sequence[str], truths: Sequence[str]) -> None:
        """Add rows.

        Args:
            answers: [rows] what the model wrote.
            truths: [rows] the true answer of each row.

        Raises:
            MisconfigurationError: The lengths differ.
        """
        if len(answers) or len(truths):
            self.append(scores=getattr(rouge_l(answers, truths), self.statistic))

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no row.
        """
        return self._mean("scores")
