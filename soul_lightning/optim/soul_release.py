"""The optimizer that SOUL's released code runs, for comparison with the one that its paper describes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.optim.parameterwise import ParameterwiseOptimizer
from soul_lightning.sharding import here


class SoulReleaseSophia(ParameterwiseOptimizer):
    """Sophia as SOUL's released code applies it. Not a second-order method: use `Sophia` with an estimator.

    At every step, with the training gradient g itself: h ← β2 h + (1 − β2) g² (no sampled labels, no interval), the
    momentum average is applied twice (one unit gradient leaves m = 0.19 at β1 = 0.9), and
    θ ← θ (1 − lr·wd) − lr · sign(m) · min(1, |m| / (ρ · bs · h + 1e-15)) with a constant bs. The release also clips the
    gradient to norm 1 first, which is the modules' `max_grad_norm`. The smaller the gradients, the closer to sign
    descent.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate.
        betas: Decay rates (β1 of the gradient, β2 of its square).
        rho: ρ.
        weight_decay: Decoupled weight decay wd.
        bs: The constant in the denominator.

    Raises:
        MisconfigurationError: A hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.95),
        rho: float = 0.04,
        weight_decay: float = 0.1,
        bs: float = 5120,
    ) -> None:
        if lr < 0 or rho <= 0 or weight_decay < 0 or bs <= 0 or not all(0 <= beta < 1 for beta in betas):
            raise MisconfigurationError(
                f"SoulReleaseSophia: lr and weight_decay must be >= 0, rho and bs above 0 and betas in [0, 1), "
                f"got lr={lr}, weight_decay={weight_decay}, rho={rho}, bs={bs}, betas={tuple(betas)}"
            )
        defaults = {"lr": lr, "betas": tuple(betas), "rho": rho, "weight_decay": weight_decay, "bs": bs}
        super().__init__(params, defaults)

    def step_parameter(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """The formulas above."""
        gradient, weight = gradient.to(torch.float32), here(parameter)
        momentum, square = self.float32_state(parameter, "momentum", "square")
        beta1, beta2 = group["betas"]
        for _ in range(2):
            momentum.mul_(beta1).add_(gradient, alpha=1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        ratio = momentum / (square * (group["rho"] * group["bs"])).add_(1e-15)
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(ratio.clamp_(-1, 1), alpha=-group["lr"])
