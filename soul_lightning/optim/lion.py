"""Lion: the sign of a momentum, the baseline that every claim for second-order steps has to beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.optim.parameterwise import ParameterwiseOptimizer
from soul_lightning.sharding import here


class Lion(ParameterwiseOptimizer):
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms").

    θ ← θ (1 − lr·wd) − lr · sign(β1 m + (1 − β1) g);  m ← β2 m + (1 − β2) g. With β1 = β2 this is signSGD with
    momentum, and what `Sophia` does where every coordinate is clipped. m is kept in float32.

    Args:
        params: Parameters or parameter groups.
        lr: Learning rate: the change of a coordinate in one step.
        betas: Decay rates (β1 of the step's momentum, β2 of the momentum that is kept).
        weight_decay: Decoupled weight decay wd.

    Raises:
        MisconfigurationError: A hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-5,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise MisconfigurationError(
                f"Lion: lr and weight_decay must be >= 0 and betas in [0, 1), "
                f"got lr={lr}, weight_decay={weight_decay}, betas={tuple(betas)}"
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    def step_parameter(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """The formulas above."""
        keep, decay_of_momentum = group["betas"]
        gradient, weight = gradient.to(torch.float32), here(parameter)
        (momentum,) = self.float32_state(parameter, "momentum")
        direction = torch.lerp(gradient, momentum, keep).sign_()
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
        momentum.lerp_(gradient, 1 - decay_of_momentum)
