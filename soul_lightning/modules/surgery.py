"""Gradient surgery between forgetting and retaining."""

from __future__ import annotations

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.sharding import SumOverWeights, here

Gradients = list[Tensor | None]


def refuse_surgery(surgery: str | None, streams: set[str]) -> None:
    """Check `gradient_surgery`.

    Raises:
        MisconfigurationError: It is unknown, or there are not two sides.
    """
    if surgery not in (None, "gru") or (surgery and streams != {"forget", "retain"}):
        raise MisconfigurationError(
            f"gradient_surgery is gru or none and sets forget against retain, got {surgery!r} with "
            f"{' and '.join(sorted(streams))}; give both objectives, or leave it out"
        )


def rectify(forget: Gradients, retain: Gradients) -> float:
    """Gradient rectified unlearning (GRU, Wang et al. 2025): drop what of the forget gradient works against retain.

    Where ⟨g_f, g_r⟩ < 0, a step along −g_f would raise the retain loss to first order. Then
    g_f ← g_f − (⟨g_f, g_r⟩ / ‖g_r‖²) g_r, all parameters taken as one vector. Otherwise nothing changes.

    Args:
        forget: Gradient of the forget loss, one a parameter; changed in place.
        retain: Gradient of the retain loss, in the same order.

    Returns:
        The cosine of the two before the change; 0 where one of them is 0.
    """
    inner = _inner(forget, retain)
    retain_square = _inner(retain, retain)
    norms = (_inner(forget, forget) * retain_square) ** 0.5
    if inner < 0 < retain_square:
        for number, (gradient, other) in enumerate(zip(forget, retain, strict=True)):
            if other is None:
                continue
            removed = other * (-inner / retain_square)
            forget[number] = removed if gradient is None else gradient.add_(removed)
    return inner / norms if norms > 0 else 0.0


def _inner(first: Gradients, second: Gradients) -> float:
    products = SumOverWeights(1)
    for a, b in zip(first, second, strict=True):
        if a is not None and b is not None:
            products.add(a, torch.sum(here(a).double() * here(b).double()))
    return products.total()[0]
