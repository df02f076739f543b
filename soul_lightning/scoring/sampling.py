"""Drawn answers in place of the likeliest ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.optim.counter_random import counter_uniform


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the tokens of an answer are drawn, each a function of (seed, draw, row, place in the answer) alone.

    Which rows share a batch, how many processes there are, and what else was drawn before change nothing.

    Attributes:
        temperature: The logits are divided by it.
        top_p: Draw from the fewest likeliest tokens that have this probability together (Holtzman et al. 2020).
        seed: Of all draws.
        draw: Number of the draw: another one is another answer.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    draw: int = 0

    def __post_init__(self) -> None:
        """Refuse what no token could be drawn by."""
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise MisconfigurationError(
                f"sampling needs temperature > 0 and 0 < top_p <= 1, got {self.temperature} and {self.top_p}; for the "
                f"likeliest answer do not sample"
            )

    def tokens(self, logits: Tensor, rows: Tensor, step: int) -> Tensor:
        """One token for each row.

        Args:
            logits: [batch, vocabulary]
            rows: [batch] int64, `Example.index` of each row.
            step: How many tokens the answers have already.

        Returns:
            [batch] int64
        """
        probabilities = (logits.float() / self.temperature).softmax(dim=-1).double()
        if self.top_p < 1:
            ordered = probabilities.sort(dim=-1, descending=True).values
            is_outside = ordered.cumsum(dim=-1) - ordered >= self.top_p
            least = ordered.masked_fill(is_outside, 1.0).amin(dim=-1, keepdim=True)
            probabilities = probabilities.where(probabilities >= least, 0.0)
        below = probabilities.cumsum(dim=-1)
        counters = [torch.full_like(rows, self.draw), rows, torch.full_like(rows, step)]
        drawn = counter_uniform(self.seed, *counters)[:, None] * below[:, -1:]
        return (below <= drawn).sum(dim=-1).clamp(max=logits.shape[-1] - 1)
