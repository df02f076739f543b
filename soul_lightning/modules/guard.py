"""The guard before an optimizer step: what is not finite is not taken."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from soul_lightning.exceptions import TrainingDivergedError


class StepGuard:
    """Counts the steps that were skipped, and ends a run that skips too many in a row.

    Args:
        most_in_a_row: So many are skipped before the run stops.
    """

    def __init__(self, most_in_a_row: int) -> None:
        self._most_in_a_row = most_in_a_row
        self.skipped = 0
        self.in_a_row = 0

    def admits(self, step: int, losses: Mapping[str, float], norm: Tensor) -> bool:
        """Whether the step may be taken; every rank says the same, for losses and gradients are those of all.

        Args:
            step: The optimizer step.
            losses: The loss of each stream.
            norm: The gradient's norm, a scalar.

        Raises:
            TrainingDivergedError: Too many steps in a row were not finite.
        """
        if bool(torch.isfinite(norm)) and all(map(math.isfinite, losses.values())):
            self.in_a_row = 0
            return True
        self.skipped += 1
        self.in_a_row += 1
        named = ", ".join(f"{stream} loss {loss:g}" for stream, loss in losses.items())
        rank_zero_warn(f"optimizer step {step} is skipped: gradient norm {float(norm):g}, {named}")
        if self.in_a_row > self._most_in_a_row:
            raise TrainingDivergedError(
                f"{self.in_a_row} optimizer steps in a row had a non-finite loss or gradient ({named}); "
                f"lower the learning rate or use a bounded forget objective",
                step,
            )
        return False

    def state_dict(self) -> dict[str, int]:
        """Both counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
