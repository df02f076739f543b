"""Sophia: a clipped second-order optimizer with a diagonal curvature estimate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.optim.parameterwise import ParameterwiseOptimizer
from soul_lightning.sharding import SumOverWeights, here

CHUNK_ELEMENTS = 131_072
"""Elements handled at a time on a CPU: a float32 chunk of each operand stays in the cache, where whole tensors go
through memory once an operation; smaller chunks lose more to calls than they save (benchmarks/sophia_step.py)."""


@dataclass(frozen=True, slots=True)
class CurvatureStatistics:
    """What one fold of a fresh estimate into the curvature looked like.

    Attributes:
        norm: ‖h‖₂ over all parameters after the fold.
        sum_ratio: Σh / Σĥ; 1 when the running estimate agrees with the fresh one.
        drift: |log(Σĥ / Σh before the fold)|; infinite at the first estimate.
    """

    norm: float
    sum_ratio: float
    drift: float


class Sophia(ParameterwiseOptimizer):
    """Sophia (Liu et al. 2023, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training").

    m ← β1 m + (1 − β1) g;  θ ← θ (1 − lr·wd) − lr · sign(m) · min(1, |m| / max(ρ h, ε)).  `lr` is the paper's ρ·η: the
    largest change of a coordinate in one step. The curvature h ← β2 h + (1 − β2) ĥ changes only in `update_curvature`,
    which an estimator such as `GaussNewtonBartlett` calls every k steps. Until the first call h is 0 and every step is
    a sign step. m and h are kept in float32.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        betas: Decay rates (β1 of the gradient, β2 of the curvature).
        rho: ρ, which scales the curvature in the ratio; a larger ρ clips fewer coordinates.
        weight_decay: Decoupled weight decay wd.
        eps: Floor ε of the denominator.
        curvature_init: `first`: h is the first estimate itself. `zero`: h starts from 0 and is averaged from there, as
            in the official code; it then takes dozens of refreshes to reach the true scale.

    Raises:
        MisconfigurationError: A hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        weight_decay: float = 0.1,
        eps: float = 1e-15,
        curvature_init: Literal["first", "zero"] = "first",
    ) -> None:
        if lr < 0 or rho <= 0 or weight_decay < 0 or eps <= 0:
            raise MisconfigurationError(
                f"Sophia: lr and weight_decay must be >= 0, rho and eps > 0, "
                f"got lr={lr}, weight_decay={weight_decay}, rho={rho}, eps={eps}"
            )
        if not all(0 <= beta < 1 for beta in betas):
            raise MisconfigurationError(f"Sophia: betas must lie in [0, 1), got {tuple(betas)}")
        if curvature_init not in ("first", "zero"):
            raise MisconfigurationError(f"Sophia: curvature_init must be first or zero, got {curvature_init!r}")
        defaults = {"lr": lr, "betas": tuple(betas), "rho": rho, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**defaults, "curvature_init": curvature_init})
        self.begin_step()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or copied optimizer."""
        super().__setstate__(state)
        self.begin_step()

    def begin_step(self) -> None:
        """Count anew."""
        self._counts = SumOverWeights(2)
        self._win_rate = 0.0

    def step_parameter(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """The formulas above, on a CPU chunk by chunk."""
        weight, (momentum, curvature) = here(parameter), self._state_of(parameter)
        self._counts.add(parameter, _step_in_chunks(weight, gradient, momentum, curvature, group), weight.numel())

    def end_step(self) -> None:
        """Find the win rate."""
        clipped, coordinates = self._counts.total()
        self._win_rate = 1 - clipped / coordinates if coordinates else 0.0

    @property
    def win_rate(self) -> float:
        """Share of coordinates that the last step did not clip, as the official code counts it.

        Healthy between 0.1 and 0.5. A coordinate that never had a gradient is not clipped.
        """
        return self._win_rate

    def update_curvature(self, scale: float) -> CurvatureStatistics:
        """Fold ĥ = scale · grad² of each parameter into h, and free the gradient.

        Args:
            scale: N, the labelled tokens that the mean gradient in `.grad` was taken over (over ranks and
                micro-batches).

        Returns:
            The norm of h and how far it stands from the fresh estimate.
        """
        return self.fold_curvature(lambda _number, gradient: gradient.to(torch.float32).square().mul_(scale))

    @torch.no_grad()
    def fold_curvature(self, estimate: Callable[[int, Tensor], Tensor]) -> CurvatureStatistics:
        """Fold a fresh estimate of each parameter into h, and free what stands in `.grad`.

        Args:
            estimate: (number of the parameter, what lies here of its `.grad`) → ĥ in float32, see
                `CurvatureEstimator.estimate`.

        Returns:
            The norm of h and how far it stands from the fresh estimate.
        """
        sums = SumOverWeights(4)
        numbered = enumerate((group, parameter) for group in self.param_groups for parameter in group["params"])
        for number, (group, parameter) in numbered:
            if parameter.grad is None:
                continue
            estimated = estimate(number, here(parameter.grad))
            parameter.grad = None
            _, curvature = self._state_of(parameter)
            state = self.state[parameter]
            is_first = state["refreshes"] == 0 and group["curvature_init"] == "first"
            decay = 0.0 if is_first else group["betas"][1]
            sums.add(parameter, *_fold_in_chunks(curvature, estimated, decay).unbind())
            state["refreshes"] += 1
        square, total, fresh_total, before_total = sums.total()
        return CurvatureStatistics(
            norm=square**0.5,
            sum_ratio=total / fresh_total if fresh_total else 1.0,
            drift=abs(math.log(fresh_total / before_total)) if fresh_total > 0 and before_total > 0 else math.inf,
        )

    def _state_of(self, parameter: Tensor) -> list[Tensor]:
        """What lies here of momentum and curvature."""
        state = self.float32_state(parameter, "momentum", "curvature")
        self.state[parameter].setdefault("refreshes", 0)
        return state


def _in_chunks(*operands: Tensor) -> list[tuple[Tensor, ...]]:
    """Pieces of tensors of one shape, on a CPU; the tensors themselves elsewhere."""
    if operands[0].device.type == "cpu" and all(tensor.is_contiguous() for tensor in operands):
        return list(zip(*(tensor.view(-1).split(CHUNK_ELEMENTS) for tensor in operands), strict=True))
    return [operands]


def _fold_in_chunks(curvature: Tensor, estimated: Tensor, decay: float) -> Tensor:
    """H ← decay · h + (1 − decay) · ĥ; returns [Σh², Σh, Σĥ, Σh before], float64."""
    sums = torch.zeros(4, dtype=torch.float64, device=curvature.device)
    for h, fresh in _in_chunks(curvature, estimated):
        before = h.sum()
        h.mul_(decay).add_(fresh, alpha=1 - decay)
        # A sum in float64 takes thirty times as long here as one in float32 over a chunk.
        sums += torch.stack([h.norm().square(), h.sum(), fresh.sum(), before])
    return sums


def _step_in_chunks(
    parameter: Tensor, gradient: Tensor, momentum: Tensor, curvature: Tensor, group: dict[str, Any]
) -> Tensor:
    """Step one parameter, on a CPU in chunks; returns how many coordinates were clipped."""
    parts = _in_chunks(parameter, gradient, momentum, curvature)
    beta, lr, rho, eps = group["betas"][0], group["lr"], group["rho"], group["eps"]
    decay = 1 - lr * group["weight_decay"]
    scratch = torch.empty_like(parts[0][2])
    clipped = torch.zeros((), dtype=torch.float64, device=parameter.device)
    for theta, g, m, h in parts:
        ratio = scratch if scratch.shape == m.shape else torch.empty_like(m)
        m.mul_(beta).add_(g.to(torch.float32), alpha=1 - beta)
        torch.mul(h, rho, out=ratio)
        torch.div(m, ratio.clamp_(min=eps), out=ratio)
        theta.mul_(decay).add_(ratio.clamp_(-1, 1), alpha=-lr)
        # A comparison written as float32 is far faster here than one written as bool, and than trunc.
        clipped += torch.eq(ratio.abs_(), 1, out=ratio).sum()
    return clipped
