"""Divergence from the reference as a forget objective."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions, Reference, full_precision
from soul_lightning.objectives.base import Objective
from soul_lightning.objectives.functional import kl_divergence, soft_cross_entropy


class KLMaximization(Objective):
    """−mean over labelled tokens of the divergence between the reference's and the model's next-token distribution.

    The "KL" method of Rezaei et al. 2025, "RESTOR", to be paired with a retain objective. Unbounded below, and its
    gradient is zero at θ = c, the very place where training starts: noise (dropout) or the retain objective must move
    the model first.

    Args:
        direction: `reference_to_model`: KL(p_c ‖ p_θ), the default. `model_to_reference`: KL(p_θ ‖ p_c).
        divergence: `kl`, or `soul_cross_entropy` for comparison with the code of SOUL and RESTOR only. That code takes
            −Σ_v p_θ log p_c = KL(p_θ ‖ p_c) + H(p_θ), so that a flat distribution is rewarded too, and means it over
            every position: prompt and padding count, and the loss changes with the padding of a batch. Here the
            last position of a row is left out, since it predicts no token of the row. It has the one direction
            `model_to_reference`.
    """

    reference = "logits"

    def __init__(
        self,
        direction: Literal["reference_to_model", "model_to_reference"] | None = None,
        divergence: Literal["kl", "soul_cross_entropy"] = "kl",
    ) -> None:
        if direction not in (None, "reference_to_model", "model_to_reference"):
            raise MisconfigurationError(
                f"KLMaximization: direction must be reference_to_model or model_to_reference, got {direction!r}"
            )
        if divergence not in ("kl", "soul_cross_entropy"):
            raise MisconfigurationError(
                f"KLMaximization: divergence must be kl or soul_cross_entropy, got {divergence!r}"
            )
        if divergence == "soul_cross_entropy":
            if direction == "reference_to_model":
                raise MisconfigurationError(
                    "KLMaximization: soul_cross_entropy is −Σ p_θ log p_c and cannot be taken with "
                    "direction='reference_to_model'; leave the direction out, or choose divergence='kl'"
                )
            self.views = ("every_position",)
            direction = "model_to_reference"
        self.direction = direction or "reference_to_model"
        self.divergence = divergence

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """Minus the divergence in nats, summed over the positions that are read."""
        log_c = full_precision(self.require_logits(reference)).log_softmax(dim=-1)
        log_theta = predictions.log_distribution
        if self.divergence == "soul_cross_entropy":
            return -soft_cross_entropy(log_c, log_theta.exp()).sum()
        pair = (log_c, log_theta) if self.direction == "reference_to_model" else (log_theta, log_c)
        return -kl_divergence(*pair).sum()
