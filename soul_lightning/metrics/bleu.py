"""BLEU of answers against the true ones (Papineni et al. 2002), as sacrebleu computes it (Post 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.judge import Judge
from soul_lightning.scoring.answers import AnswerRow

Scores = dict[str, float | None]

_HITS, _GRAMS = ([f"{kind}_{n}" for n in range(1, 5)] for kind in ("hits", "grams"))


def require_sacrebleu() -> None:
    """Check that BLEU can be computed, before anything is trained for it.

    Raises:
        MisconfigurationError: sacrebleu is not installed.
    """
    if find_spec("sacrebleu") is None:
        raise MisconfigurationError(
            "BLEU needs the package sacrebleu, which is not installed; run pip install 'soul-lightning[eval]'"
        )


def corpus_bleu(answers: Sequence[str], truths: Sequence[str]) -> float:
    """100 · BP · exp(mean_n log p_n), n = 1 … 4, over all answers together; sacrebleu's defaults.

    p_n is the share of the answers' n-grams that stand in the truths, each counted as often as there; BP is
    exp(1 − |truths| / |answers|) in tokens where the answers are shorter, else 1. Tokens are sacrebleu's `13a`, case
    counts, and a p_n of 0 is smoothed (`exp`). Where no answer has four tokens BLEU is 0: single words are not scored
    with it.

    Args:
        answers: [rows] what the model wrote.
        truths: [rows] the true answer of each row.

    Returns:
        Between 0 and 100: 100 where every answer is the true one.

    Raises:
        MisconfigurationError: There is no row, the lengths differ, or sacrebleu is not installed.

    Example:
        >>> round(corpus_bleu(["the red bird sang"], ["the red bird sang"]), 6)
        100.0
    """
    require_sacrebleu()
    from sacrebleu import corpus_bleu as score

    _check(len(answers), len(truths))
    return float(score(list(answers), [list(truths)]).score)


class Bleu(RowMetric):
    """`corpus_bleu` of all rows of all processes, which keeps n-gram counts and no text.

    Args:
        settings: Of `torchmetrics.Metric`.

    Raises:
        MisconfigurationError: sacrebleu is not installed.

    Example:
        >>> metric = Bleu()
        >>> metric.update(["the red bird sang"], ["the red bird sang"])
        >>> metric.update(["a red bird sang"], ["the red bird sang"])
        >>> round(metric.compute().item(), 4)
        72.3127
    """

    def __init__(self, **settings: Any) -> None:
        require_sacrebleu()
        super().__init__("said", "true", *_HITS, *_GRAMS, **settings)

    def update(self, answers: Sequence[str], truths: Sequence[str]) -> None:
        """Add rows.

        Args:
            answers: [rows] what the model wrote.
            truths: [rows] the true answer of each row.

        Raises:
            MisconfigurationError: The lengths differ.
        """
        from sacrebleu.metrics.bleu import BLEU

        if answers or truths:
            _check(len(answers), len(truths))
        # An effective order changes only the sentence's own score, which is not read; without one sacrebleu warns.
        sentence = BLEU(effective_order=True).sentence_score
        rows = [sentence(answer, [truth]) for answer, truth in zip(answers, truths, strict=True)]
        self.append(
            said=[row.sys_len for row in rows],
            true=[row.ref_len for row in rows],
            **{name: [row.counts[n] for row in rows] for n, name in enumerate(_HITS)},
            **{name: [row.totals[n] for row in rows] for n, name in enumerate(_GRAMS)},
        )

    def compute(self) -> Tensor:
        """[] float64, between 0 and 100.

        Raises:
            MisconfigurationError: There is no row.
        """
        from sacrebleu.metrics.bleu import BLEU

        rows = len(self.rows("said"))
        _check(rows, rows)
        said, true, *counts = (int(self.rows(name).sum()) for name in self.columns)
        hits, grams = counts[: len(_HITS)], counts[len(_HITS) :]
        return self._number(float(BLEU.compute_bleu(hits, grams, said, true, smooth_method="exp").score))


def restoration_bleu(
    rows: Mapping[str, Sequence[AnswerRow]],
    *,
    clean: str = "clean",
    corrupted: str = "corrupted",
    cut_at: str = Judge().cut_at,
) -> dict[str, Scores]:
    """BLEU of several models on the same questions, and how much of what corruption took away came back.

    Args:
        rows: Each model's answers; those of roles `corrupted` and `control` count. Runs with several seeds are one
            corpus.
        clean: Name of the model before corruption.
        corrupted: Name of the corrupted model.
        cut_at: An answer ends where this text first occurs in it, as for the judge.

    Returns:
        By model `bleu_corrupted` and `bleu_control`, 0 to 100 (none without such questions), and `bleu_restoration`,
        (own − corrupted) / (clean − corrupted) of `bleu_corrupted`: none where the clean or the corrupted model is
        missing, or the clean one is not above.
    """
    scores: dict[str, Scores] = {}
    for model, answers in rows.items():
        scores[model] = {}
        for role in ("corrupted", "control"):
            asked = [row for row in answers if row.role == role]
            said = [row.answer.strip().split(cut_at)[0] if cut_at else row.answer for row in asked]
            scores[model][f"bleu_{role}"] = corpus_bleu(said, [row.truth for row in asked]) if asked else None
    top, bottom = (scores.get(model, {}).get("bleu_corrupted") for model in (clean, corrupted))
    for own in scores.values():
        own["bleu_restoration"] = _restored(own["bleu_corrupted"], top, bottom)
    return scores


def _check(answers: int, truths: int) -> None:
    if not answers or answers != truths:
        raise MisconfigurationError(
            f"BLEU needs a true answer for each of one or more answers, got {answers} answers and {truths} "
            f"true ones; score the answers to a probe that has questions"
        )


def _restored(own: float | None, clean: float | None, corrupted: float | None) -> float | None:
    if own is None or clean is None or corrupted is None or clean <= corrupted:
        return None
    return (own - corrupted) / (clean - corrupted)
