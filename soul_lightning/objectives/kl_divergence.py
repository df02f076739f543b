"""Kullback-Leibler divergence from the reference, on the retain set."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions, Reference, full_precision
from soul_lightning.objectives.base import Objective
from soul_lightning.objectives.functional import kl_divergence


class KLDivergence(Objective):
    """Mean over labelled tokens of the divergence between the reference's and the model's next-token distribution.

    Forward, it is distillation with the reference as the teacher (Hinton et al. 2015, at temperature 1): cross-entropy
    with the teacher's whole distribution as the target, less the teacher's entropy, which has no gradient.

    Args:
        direction: `forward`: KL(p_c ‖ p_θ), the model must cover what the reference says. `reverse`: KL(p_θ ‖ p_c).
    """

    reference = "logits"

    def __init__(self, direction: Literal["forward", "reverse"] = "forward") -> None:
        if direction not in ("forward", "reverse"):
            raise MisconfigurationError(f"KLDivergence: direction must be forward or reverse, got {direction!r}")
        self.direction = direction

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """The divergence in nats, summed over labelled tokens."""
        log_c = full_precision(self.require_logits(reference)).log_softmax(dim=-1)
        log_theta = predictions.log_distribution
        pair = (log_c, log_theta) if self.direction == "forward" else (log_theta, log_c)
        return kl_divergence(*pair).sum()
