from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.optim.inverse_hessian import LossSum
from soul_lightning.optim.row_influence import row_influences

WEIGHTS = torch.tensor([1.0, 2.0], requires_grad=True)


def squared(x: list[float], y: float) -> Callable[[], Tensor]:
    return lambda: 0.5 * (torch.tensor(x) @ WEIGHTS - y).square()


def sampled(x: list[float], draw: int) -> Tensor:
    """The same with a label one off what the model says, on either side: its squared gradient is x² exactly."""
    said = torch.tensor(x) @ WEIGHTS
    return 0.5 * (said - (said.detach() + (-1.0) ** draw)).square()


def losses(*parts: Callable[[], Tensor], retain: tuple[list[float], ...] = ()) -> LossSum:
    return LossSum(parts, [WEIGHTS], [partial(sampled, x) for x in retain])


def test_influences_worked_out_by_hand() -> None:
    # H = diag(1² + 0, 0 + 2²) = (1, 4), of mean 2.5; λ = 0.4 · 2.5 = 1, so H + λ = (2, 5).
    retain = losses(retain=([1.0, 0.0], [0.0, 2.0]))
    # (1, 1) · (1, 2) − 1 = 2, so ∇L_probe = (2, 2) and (H + λ)⁻¹ ∇L_probe = (1, 0.4).
    probe = losses(squared([1.0, 1.0], 1.0))
    # ∇ℓ: (1 − 0) (1, 0) = (1, 0);  (2 − 4) (0, 1) = (0, −2);  (1 − 1) (1, 0) = 0.
    rows = [squared([1.0, 0.0], 0.0), squared([0.0, 1.0], 4.0), squared([1.0, 0.0], 1.0)]
    found = row_influences(probe, retain, rows, [WEIGHTS], damping=0.4, draws=2)
    torch.testing.assert_close(found, torch.tensor([1.0, -0.8, 0.0], dtype=torch.float64))
    assert WEIGHTS.grad is None


def test_a_step_on_the_row_of_largest_influence_lowers_the_probes_loss_most() -> None:
    retain = losses(retain=([1.0, 0.5], [0.5, 1.0]))
    probe = squared([1.0, 1.0], 1.0)
    rows = [squared([1.0, 0.0], 0.0), squared([0.0, 1.0], 4.0), squared([1.0, 1.0], -1.0)]
    found = row_influences(losses(probe), retain, rows, [WEIGHTS])
    drops = []
    for row in rows:
        (gradient,) = torch.autograd.grad(row(), WEIGHTS)
        diagonal = retain.gauss_newton_diagonal(1)
        moved = WEIGHTS.detach() - 1e-4 * gradient / (diagonal + 0.1 * diagonal.mean())
        drops.append(float(probe().detach() - 0.5 * (moved.sum() - 1.0).square()))
    assert found.argsort().tolist() == torch.tensor(drops).argsort().tolist()
    torch.testing.assert_close(torch.tensor(drops) / 1e-4, found.float(), rtol=0.02, atol=0.01)


def test_retain_losses_without_curvature_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="mean 0, by which nothing can be divided"):
        row_influences(losses(squared([1.0, 1.0], 1.0)), losses(retain=([0.0, 0.0],)), [], [WEIGHTS])


def test_no_rows_have_no_influence() -> None:
    found = row_influences(losses(squared([1.0, 1.0], 1.0)), losses(retain=([1.0, 1.0],)), [], [WEIGHTS])
    assert found.shape == (0,)


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(MisconfigurationError, match="an influence is not finite"):
        row_influences(
            losses(squared([1.0, 1.0], 1.0)),
            losses(retain=([1.0, 1.0],)),
            [squared([1.0, 1.0], float("inf"))],
            [WEIGHTS],
        )
