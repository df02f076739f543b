"""Sharpness-aware unlearning: the forget gradient is taken where the weights nearby undo forgetting the most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.surgery import Gradients
from soul_lightning.sharding import here, whole


def refuse_radius(radius: float | None, streams: set[str]) -> None:
    """Check `sharpness_radius`.

    Raises:
        MisconfigurationError: It is not above 0, or there is no forget objective.
    """
    if radius is not None and not (0 < radius < float("inf") and "forget" in streams):
        raise MisconfigurationError(
            f"sharpness_radius is a distance above 0 around the forget objective, got {radius} with "
            f"{' and '.join(sorted(streams))}; give a forget objective and a radius such as 0.01, or leave it out"
        )


@contextmanager
def ascended(parameters: Sequence[Tensor], gradients: Gradients, radius: float) -> Iterator[bool]:
    """Inside, the weights stand at θ + ρ · g / ‖g‖₂; outside at θ, to the bit (a copy is kept).

    The inner step of sharpness-aware minimisation (Foret et al. 2021), as Fan et al. 2025, "Towards LLM Unlearning
    Resilient to Relearning Attacks", take it around the forget loss: relearning is a step that raises this loss. All
    parameters make one vector. A gradient that is 0 or not finite has no direction, and moves nothing.

    Args:
        parameters: What trains, whole or in parts on several processes.
        gradients: Of the loss as it is minimised, the same on every process; emptied where the weights move.
        radius: ρ.

    Yields:
        Whether the weights have moved; the same on every process.
    """
    norm = float(whole(torch.nn.utils.get_total_norm([each for each in gradients if each is not None])))
    if not 0 < norm < float("inf"):
        yield False
        return
    pairs = zip(parameters, gradients, strict=True)
    moving = [(here(own).detach(), here(each)) for own, each in pairs if each is not None]
    kept = [(own, own.clone()) for own, _ in moving]
    try:
        for own, gradient in moving:
            own.add_(gradient, alpha=radius / norm)
        moving.clear()
        gradients.clear()
        torch.clear_autocast_cache()  # the weights in bfloat16, as they were
        yield True
    finally:
        for own, before in kept:
            own.copy_(before)
        torch.clear_autocast_cache()
