"""Which rows a model owes an answer to: influence functions with a diagonal curvature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.optim.inverse_hessian import LossSum, RowLoss


def row_influences(
    probe: LossSum,
    retain: LossSum,
    rows: Iterable[RowLoss],
    parameters: Sequence[Tensor],
    damping: float = 0.1,
    draws: int = 1,
) -> Tensor:
    """How much a step on each row would lower the probe's loss: ∇L_probeᵀ (H + λI)⁻¹ ∇ℓ_row, one backward pass a row.

    Minus the influence of up-weighting a row on the probe's loss (Koh and Liang 2017, equation 2), with H the
    Gauss-Newton diagonal of the retain losses in place of the Hessian and λ a share of its mean, as in Kwon et al.
    2024, "DataInf".

    Args:
        probe: The loss of the answers that are asked about.
        retain: Retain losses, with sampled parts.
        rows: The loss of each row.
        parameters: What the three are differentiated by.
        damping: λ as a share of the diagonal's mean, above 0.
        draws: Draws of every sampled label that the diagonal is averaged over.

    Returns:
        [rows], larger for rows that support the probe's answers, negative for rows that speak against them.

    Raises:
        MisconfigurationError: The retain losses have no curvature, or an influence is not finite.
    """
    curvature = retain.gauss_newton_diagonal(draws)
    mean = curvature.mean()
    if not mean > 0:
        raise MisconfigurationError(
            f"the retain losses have a Gauss-Newton diagonal of mean {float(mean):g}, by which nothing can be divided; "
            f"give retain rows whose answers are labelled"
        )
    direction = probe.gradient().div_(curvature.add_(mean, alpha=damping))
    slopes = [torch.dot(direction.double(), LossSum([row], parameters).gradient().double()) for row in rows]
    influences = torch.stack(slopes) if slopes else direction.new_zeros(0)
    if not torch.isfinite(influences).all():
        raise MisconfigurationError("an influence is not finite; check the model, whose loss or gradient is not either")
    return influences
