"""Gradient ascent on the forget set."""

from __future__ import annotations

from torch import Tensor

from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives.base import Objective


class GradientAscent(Objective):
    """−token-mean NLL: the forget text is made less likely, without bound.

    Together with a `CrossEntropy` retain objective it is the field's GradDiff (Liu et al. 2022). It diverges when it
    runs long enough: prefer `NPO`, or watch the forget loss.
    """

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """Σ log p_θ(y_t) over labelled tokens."""
        return predictions.log_probs.sum()
