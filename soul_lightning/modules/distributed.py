"""Which of Lightning's strategies the manual loop can serve, and when processes exchange gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.quantization import is_quantized

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


def refuse_strategy(module: StreamModule) -> None:
    """Check the strategy of the module's Trainer.

    Raises:
        MisconfigurationError: It splits the weights in a way that the loop, or what the module does, cannot follow.
    """
    strategy = module.trainer.strategy
    name = type(strategy).__name__
    if isinstance(strategy, FSDPStrategy | DeepSpeedStrategy):
        raise MisconfigurationError(
            f"trainer.strategy {name} hides the gradients that clipping and curvature read; "
            f"use ModelParallelStrategy (FSDP2), which splits weights, gradients and optimizer states too, or ddp"
        )
    if not isinstance(strategy, ModelParallelStrategy):
        return
    if module.device_mesh is not None and module.device_mesh["tensor_parallel"].size() > 1:
        raise MisconfigurationError(
            f"trainer.strategy {name} splits single matrices over {module.device_mesh['tensor_parallel'].size()} "
            f"processes, which is not built here; set its tensor_parallel_size to 1 and data_parallel_size to the "
            f"number of processes"
        )
    if module.source.quantization if module.source is not None else is_quantized(module.network):
        raise MisconfigurationError(
            f"trainer.strategy {name} splits the weights, which those of network.quantization do not allow; use ddp, "
            f"or leave network.quantization out"
        )
    if module.needs_whole_weights:
        raise MisconfigurationError(
            f"{type(module).__name__} reads whole weights, and trainer.strategy {name} splits them; use ddp"
        )
    if module.curvature is not None and not module.curvature.reuses_graph:
        raise MisconfigurationError(
            f"{type(module.curvature).__name__} differentiates twice, which the split weights of trainer.strategy "
            f"{name} do not allow; use GaussNewtonBartlett, or ddp"
        )


def average_gradients(module: StreamModule) -> None:
    """Average every gradient over ranks, where no backward pass has done it."""
    if module.trainer.world_size == 1:
        return
    for parameter in module.trainable_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        reduced = module.trainer.strategy.reduce(gradient, reduce_op="mean")
        assert isinstance(reduced, Tensor)
        parameter.grad = reduced


def backward_sync(module: StreamModule, *, is_last: bool) -> AbstractContextManager[None]:
    """Around a backward pass: gradients that every rank holds whole are averaged over ranks only where `is_last`."""
    block = getattr(module.trainer.strategy, "block_backward_sync", None)
    return nullcontext() if is_last or block is None or module.trainer.world_size == 1 else block()
