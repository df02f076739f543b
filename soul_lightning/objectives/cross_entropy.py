"""Cross-entropy: learn, or keep, the labelled tokens."""

from __future__ import annotations

from torch import Tensor

from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives.base import Objective


class CrossEntropy(Objective):
    """Token-mean NLL of the labelled tokens, −Σ log p_θ(y_t) / Σ |y|."""

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """Σ −log p_θ(y_t) over labelled tokens."""
        return -predictions.log_probs.sum()
