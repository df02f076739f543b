"""Likelihoods of texts and answers as numbers that can be compared: probability and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from soul_lightning.exceptions import MisconfigurationError


def perplexity(nlls: Sequence[float], tokens: Sequence[int]) -> float:
    """exp(Σ NLL / Σ |y|): every labelled token counts the same, whatever row it stands in.

    Args:
        nlls: [rows] NLL of each row, summed over its labelled tokens, in nats.
        tokens: [rows] labelled tokens of each row.

    Returns:
        The perplexity; infinity where it is beyond floating point.

    Raises:
        MisconfigurationError: No token is labelled.
    """
    total = sum(tokens)
    if len(nlls) != len(tokens) or total < 1:
        raise MisconfigurationError(
            f"perplexity needs one NLL and one token count a row and at least one token, got {len(nlls)} rows "
            f"with {total} tokens in {len(tokens)} counts; give rows with a labelled answer"
        )
    mean = math.fsum(nlls) / total
    return math.exp(mean) if mean < 700 else math.inf


def sequence_probability(nlls: Sequence[float], tokens: Sequence[int]) -> float:
    """Mean over rows of exp(−NLL/|y|), the geometric mean of a row's token probabilities (TOFU's probability).

    Args:
        nlls: [rows] NLL of each row, summed over its labelled tokens, in nats.
        tokens: [rows] labelled tokens of each row, all at least 1.

    Raises:
        MisconfigurationError: There is no row, or one without a labelled token.
    """
    if not len(nlls) or len(nlls) != len(tokens) or min(tokens) < 1:
        raise MisconfigurationError(
            f"probability needs rows with at least one labelled token each, got {len(nlls)} rows with the counts "
            f"{list(tokens)[:5]}; leave out rows without an answer"
        )
    return float(np.exp(-np.asarray(nlls, dtype=np.float64) / np.asarray(tokens)).mean())
