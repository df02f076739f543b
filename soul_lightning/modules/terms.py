"""A summand of the loss."""

from __future__ import annotations

from dataclasses import dataclass

from soul_lightning.networks.predictions import Predictions
from soul_lightning.objectives.base import Objective
from soul_lightning.protocols import Batch
from soul_lightning.schedules import WeightSchedule


@dataclass(frozen=True)
class Term:
    """An objective on a stream, with a weight over training progress."""

    stream: str
    objective: Objective
    weight: WeightSchedule


@dataclass(frozen=True)
class TermPart:
    """A micro-batch of a term's stream.

    Attributes:
        term: The term.
        batch: The rows.
        predictions: What the network says about them, where that is known already.
    """

    term: Term
    batch: Batch
    predictions: Predictions | None = None
