"""Scores of one row for membership attacks, from its loss: high where the row looks *unlike* training data.

`membership_scores` holds those that read single tokens, `soul_lightning.scoring.gradient_norms` the norm of the row's
gradient, and `area_under_curve` of `membership` compares any of them between sets.
"""

from __future__ import annotations

import math
import zlib

from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError


def loss_score(log_probs: Tensor) -> float:
    """The mean NLL of a row (Yeom et al. 2018), the loss that the other scores start from.

    Args:
        log_probs: [labelled] log p(y_t), in nats; at least one.

    Returns:
        The score in nats a token, at least 0.

    Raises:
        MisconfigurationError: No token is labelled.

    Example:
        >>> import torch
        >>> loss_score(torch.tensor([-1.0, -3.0]))
        2.0
    """
    if log_probs.dim() != 1 or not len(log_probs):
        raise MisconfigurationError(
            f"the loss score needs the labelled tokens of one row, got log-probabilities of shape "
            f"{list(log_probs.shape)}; leave out rows without an answer"
        )
    return -float(log_probs.double().mean())


def zlib_score(mean_nll: float, text: str) -> float:
    """Mean NLL / bytes of the compressed text: is the loss low without the text being simple? (Carlini et al. 2021).

    The mean loss, as there and in the code of SOUL: the longer of two texts with the same mean scores lower, and only
    sets of like length can be compared.

    Args:
        mean_nll: NLL/|y| of the row, in nats a token.
        text: What the NLL is of; UTF-8, compressed by zlib at its default level.

    Returns:
        The score in nats a token and byte, at least 0.

    Example:
        >>> zlib_score(2.0, "a red bird") > zlib_score(2.0, "a red bird sang to me in the garden")
        True
    """
    return mean_nll / len(zlib.compress(text.encode("utf-8")))


def reference_score(mean_nll: float, reference_mean_nll: float) -> float:
    """Mean NLL − that of a reference model: what the row owes to its training and not to being easy.

    Args:
        mean_nll: NLL/|y| of the row under the model, in nats a token.
        reference_mean_nll: The same under a model that never saw the row, of the same tokens.

    Returns:
        The score in nats a token, of either sign.

    Example:
        >>> reference_score(0.5, 3.0)
        -2.5
    """
    return mean_nll - reference_mean_nll


def lowercase_score(mean_nll: float, lowercase_mean_nll: float) -> float:
    """−(mean NLL of the lower-cased text) / mean NLL: a member loses more by lower-casing (Carlini et al. 2021).

    Args:
        mean_nll: NLL/|y| of the row, in nats a token.
        lowercase_mean_nll: The same of the row in lower case.

    Returns:
        The score, at most 0: −1 where lower-casing changes nothing, as for every row of a tokenizer or a text without
        capitals; −∞ where the row itself has no loss at all.

    Example:
        >>> lowercase_score(0.5, 3.0), lowercase_score(3.0, 3.0)
        (-6.0, -1.0)
    """
    if mean_nll == lowercase_mean_nll:
        return -1.0
    return -lowercase_mean_nll / mean_nll if mean_nll else -math.inf
