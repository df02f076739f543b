"""What the optimizers here share: a step that visits one parameter after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from soul_lightning.sharding import here


class ParameterwiseOptimizer(Optimizer):
    """An optimizer whose update of a parameter reads that parameter alone."""

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient.

        Args:
            closure: Recomputes the loss and the gradients; its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.begin_step()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.step_parameter(parameter, here(parameter.grad), group)
        self.end_step()
        return loss

    def begin_step(self) -> None:
        """Called before the first parameter of a step."""

    def end_step(self) -> None:
        """Called after the last parameter of a step."""

    @abstractmethod
    def step_parameter(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Move one parameter, or the part of it that lies `here`.

        Args:
            parameter: Changed in place.
            gradient: The gradient of what lies here.
            group: Its hyperparameters.
        """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load, and keep the state in float32, where torch would cast it to each parameter's precision."""
        super().load_state_dict(state_dict)
        saved = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(saved, parameters, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    self.state[parameter][name] = value.to(parameter.device, torch.float32, copy=True)

    def float32_state(self, parameter: Tensor, *names: str) -> list[Tensor]:
        """What lies here of the parameter's state under these names; at first, zeros in float32."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state.update({name: torch.zeros_like(parameter, dtype=torch.float32) for name in names})
        return [here(state[name]) for name in names]
