"""What every forget and retain objective is."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

from soul_lightning.networks.predictions import Predictions, Reference

Unit = Literal["tokens", "sequences", "batches"]
"""What an objective is a mean over; the denominator of a whole optimizer step."""
ReferenceNeed = Literal["none", "log_probs", "logits"]
"""What an objective reads of the reference model c."""


class Objective(ABC):
    """A loss over the labelled positions of one stream.

    A subclass gives `summed`, the sum over its units. The module divides by the units of the *whole* optimizer step
    (all micro-batches, all ranks), so that cutting a batch differently never changes the gradient.

    Attributes:
        unit: What the loss is a mean over.
        reference: What is needed of the reference model; `none`, label `log_probs`, or whole `logits`.
    """

    unit: Unit = "tokens"
    reference: ReferenceNeed = "none"

    @abstractmethod
    def summed(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """The loss summed over the units of `predictions`: a scalar with a gradient, 0 where nothing is labelled."""

    def count(self, predictions: Predictions) -> int:
        """How many units `predictions` hold."""
        if self.unit == "tokens":
            return predictions.labelled_tokens
        if self.unit == "sequences":
            return predictions.labelled_sequences
        return min(1, predictions.labelled_tokens)

    def __call__(self, predictions: Predictions, reference: Reference | None = None) -> Tensor:
        """The mean loss of one batch by itself, for use outside of the modules."""
        count = self.count(predictions)
        if count == 0:
            warnings.warn(f"{type(self).__name__}: no token of the batch is labelled; its loss is 0", stacklevel=2)
        return self.summed(predictions, reference) / max(count, 1)

    def require(self, reference: Reference | None) -> Reference:
        """The reference, or one sentence that says it is missing."""
        if reference is None:
            raise ValueError(
                f"{type(self).__name__} compares with the model before unlearning, and no reference was given; "
                f"pass reference=Reference(...) or train through UnlearningModule, which supplies it"
            )
        return reference

    def require_logits(self, reference: Reference | None) -> Tensor:
        """The reference's logits, [labelled, vocabulary], or one sentence that says they are missing."""
        logits = self.require(reference).logits
        if logits is None:
            raise ValueError(
                f"{type(self).__name__} needs the reference's whole distribution, and only label log-probs were given; "
                f"use the reference policy 'frozen_copy' or 'adapters_off'"
            )
        return logits
