"""Negative preference optimisation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives.base import Objective
from soul_lightning.objectives.functional import npo


class NPO(Objective):
    """(2/β) · mean −log σ(−β (log p_θ(y) − log p_c(y))), Zhang et al. 2024, "Negative Preference Optimization".

    Bounded below: where a sequence is already unlikelier than under c by several 1/β nats, its gradient vanishes.

    Args:
        beta: Inverse temperature β, > 0. At `level="sequence"` the ratio grows with the answer's length, so β is
            usually 0.05–0.2; at `level="token"` 0.1–1.
        level: `sequence`: log-probs summed over a sequence's tokens, the paper's loss. `token`: the same for each
            token, averaged over a sequence's tokens, then over sequences (the RESTOR paper). `batch`: one term for the
            batch's token-mean log-ratio (the code of SOUL and RESTOR); by definition it depends on how a batch is cut.
    """

    reference = "log_probs"

    def __init__(self, beta: float = 0.1, level: Literal["sequence", "token", "batch"] = "sequence") -> None:
        if beta <= 0:
            raise MisconfigurationError(
                f"NPO: beta must be above 0, got {beta}; use GradientAscent for the limit beta = 0"
            )
        if level not in ("sequence", "token", "batch"):
            raise MisconfigurationError(f"NPO: level must be sequence, token or batch, got {level!r}")
        self.beta = beta
        self.level = level
        self.unit = "batches" if level == "batch" else "sequences"

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """The loss summed over sequences (or, at `level="batch"`, of the batch as one)."""
        log_ratio = predictions.log_probs - self.require(reference).log_probs
        if self.level == "sequence":
            return npo(predictions.row_sums(log_ratio), self.beta).sum()
        if self.level == "token":
            return predictions.row_means(npo(log_ratio, self.beta)).sum()
        if predictions.labelled_tokens == 0:
            return log_ratio.sum()
        return npo(log_ratio.mean(), self.beta)
