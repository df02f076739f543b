"""Every metric that is read off logits, on rows that are padded, cut into batches and ordered in any way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from soul_lightning.metrics import (
    ExactMemorization,
    ExtractionStrength,
    MembershipArea,
    Perplexity,
    Probability,
    min_k,
    min_k_plus_plus,
)
from soul_lightning.metrics.token_statistics import token_statistics
from soul_lightning.networks.predictions import Predictions
from soul_lightning.protocols import IGNORE_INDEX
from soul_lightning.scoring.scorer import ExampleScore

Row = tuple[Tensor, Tensor]
"""Logits [tokens, vocabulary] and unshifted labels [tokens] of one row without padding."""
Side = Literal["left", "right"]


def padded(rows: Sequence[Row], side: Side) -> tuple[Tensor, Tensor]:
    """Logits and labels of a batch; the longest row has padding too, and the model is sure of what it says there."""
    width = 2 + max(len(labels) for _, labels in rows)
    ends = [(0, width - len(labels)) if side == "right" else (width - len(labels), 0) for _, labels in rows]
    logits = [pad(own, (0, 0, *end), value=50.0) for (own, _), end in zip(rows, ends, strict=True)]
    labels = [pad(own, end, value=IGNORE_INDEX) for (_, own), end in zip(rows, ends, strict=True)]
    return torch.stack(logits), torch.stack(labels)


def readings(rows: Sequence[Row], side: Side, batch_size: int, order: Sequence[int]) -> dict[str, float]:
    """The metrics by name, after one update a batch; rows with an even number are the attack's forget set.

    Args:
        rows: At least two, the first label of each unlabelled: nothing stands before it.
        side: Where the padding goes.
        batch_size: Rows in a batch.
        order: Which row comes when.
    """
    probability, perplexity = Probability(), Perplexity()
    memorization, strength = ExactMemorization(), ExtractionStrength()
    areas = {name: MembershipArea() for name in ("mean_nll", "min_k", "min_k_plus_plus")}
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        logits, labels = padded([rows[number] for number in numbers], side)
        found = token_statistics(Predictions.from_logits(logits, labels))
        scores = [ExampleScore(place, row) for place, row in found.items()]
        nlls, tokens = [score.nll for score in scores], [score.tokens for score in scores]
        probability.update(nlls, tokens)
        perplexity.update(nlls, tokens)
        memorization.update([row.hits for row in found.values()])
        strength.update([row.hits for row in found.values()])
        for place, row in found.items():
            kind = "forget_scores" if numbers[place] % 2 == 0 else "holdout_scores"
            areas["mean_nll"].update(**{kind: [ExampleScore(place, row).mean_nll]})
            areas["min_k"].update(**{kind: [min_k(row.log_probs)]})
            areas["min_k_plus_plus"].update(**{kind: [min_k_plus_plus(row.log_probs, row.means, row.variances)]})
    return {
        "probability": probability.compute().item(),
        "perplexity": perplexity.compute().item(),
        "exact_memorization": memorization.compute().item(),
        "extraction_strength": strength.compute().item(),
        **{f"area {name}": area.compute().item() for name, area in areas.items()},
    }


def all_readings(rows: Sequence[Row]) -> Iterator[dict[str, float]]:
    """The metrics for both sides of padding, batches of every size, and three orders of the rows."""
    forward = list(range(len(rows)))
    orders = (forward, forward[::-1], forward[1::2] + forward[::2])
    for side, batch_size, order in product(get_args(Side), range(1, len(rows) + 1), orders):
        yield readings(rows, side, batch_size, order)


def in_precision(rows: Sequence[Row], dtype: torch.dtype) -> list[Row]:
    """The same rows with logits of `dtype`."""
    return [(logits.to(dtype), labels) for logits, labels in rows]
