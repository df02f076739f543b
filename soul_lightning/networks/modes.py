"""Training and evaluation mode of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside, each submodule's own mode restored outside.

    Args:
        network: The network; `network.train()` afterwards would also switch on submodules that were off before.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield network.eval()
    finally:
        for module, mode in modes:
            module.training = mode
