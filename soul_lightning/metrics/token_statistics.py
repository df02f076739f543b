"""What a model says of each labelled token, beyond its probability: the ground of every teacher-forced metric."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from soul_lightning.networks.predictions import Predictions, full_precision

ELEMENTS_AT_ONCE = {"cpu": 2**18, "other": 2**26}
"""Logits worked off at a time: so many as stay in a processor's cache between the passes over them, or as keep a GPU
busy; at least the logits of one position."""
LEAST_DIFFERENCE = -1e4
"""Of a log-probability to the largest one: p is 0 below it anyway, and 0 · −∞ would not be a number."""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """The labelled tokens y of one row, each predicted from the true tokens before it.

    Attributes:
        log_probs: [labelled] log p(y_t), in nats.
        hits: [labelled] boolean: y_t is the model's first choice.
        means: [labelled] μ = Σ_v p_v log p_v, what log p of a token drawn from the model would be on average.
        variances: [labelled] σ² = Σ_v p_v (log p_v − μ)².
    """

    log_probs: Tensor
    hits: Tensor
    means: Tensor
    variances: Tensor

    def __len__(self) -> int:
        return len(self.log_probs)

    def cpu(self) -> TokenStatistics:
        """The same on the CPU, in memory of its own."""
        return TokenStatistics(*(column.cpu().clone() for column in self._columns))

    def followed_by(self, other: TokenStatistics) -> TokenStatistics:
        """These tokens and then those of `other`."""
        return TokenStatistics(*(torch.cat(pair) for pair in zip(self._columns, other._columns, strict=True)))

    @property
    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.log_probs, self.hits, self.means, self.variances


@torch.no_grad()
def token_statistics(predictions: Predictions) -> dict[int, TokenStatistics]:
    """The statistics of each row that has a label, by its place in the batch; the other rows are skipped.

    Softmax and sums run in float32 where the logits are lower, and in the logits' own precision elsewhere.

    Args:
        predictions: Logits at the labelled positions of a batch, on any device.

    Returns:
        Statistics on the device of the logits.
    """
    logits, targets = predictions.logits, predictions.targets
    limit = ELEMENTS_AT_ONCE["cpu" if logits.device.type == "cpu" else "other"]
    positions = max(1, limit // max(1, logits.shape[-1]))
    pieces = [
        _statistics(piece, labels)
        for piece, labels in zip(logits.split(positions), targets.split(positions), strict=True)
    ]
    lengths = predictions.tokens_per_row.tolist()
    columns = [torch.cat(column).split(lengths) for column in zip(*pieces, strict=True)]
    rows = zip(*columns, strict=True)
    return {place: TokenStatistics(*row) for place, row in enumerate(rows) if lengths[place]}


def _statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The log p(y), hits, μ and σ², [positions] each, of [positions, vocabulary] logits: one exponential for all."""
    choices = logits.argmax(dim=-1, keepdim=True)
    logits = full_precision(logits)
    differences = logits - logits.gather(-1, choices)
    labels = differences.gather(-1, targets[:, None])[:, 0]
    differences.clamp_(min=LEAST_DIFFERENCE)
    weights = differences.exp()
    total = weights.sum(dim=-1)
    log_total = total.log()
    means = torch.linalg.vecdot(weights, differences) / total
    # Around the mean: E[x²] − E[x]² would cancel where the model is nearly sure.
    squares = differences.sub_(means[:, None]).square_()
    variances = torch.linalg.vecdot(weights, squares) / total
    return labels - log_total, choices[:, 0] == targets, means - log_total, variances
