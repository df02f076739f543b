"""Looking at a model in the middle of its training without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from soul_lightning.networks.modes import evaluation_mode

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@contextmanager
def kept_random_state(network: nn.Module) -> Iterator[None]:
    """The random generators of torch (CPU, and the GPU that holds `network`), numpy and python go on as before."""
    devices = {parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"}
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextmanager
def isolated_evaluation(network: nn.Module, trainer: Trainer | None = None) -> Iterator[nn.Module]:
    """Evaluation mode, no gradients, the run's precision; afterwards training goes on as if nothing had happened.

    The random generators go on as before, and so does the mode of each submodule.

    Args:
        network: The network to look at.
        trainer: The Trainer whose precision applies; none leaves the precision as it is.
    """
    precision = trainer.precision_plugin.forward_context() if trainer is not None else nullcontext()
    with kept_random_state(network), evaluation_mode(network), torch.no_grad(), precision:
        yield network
