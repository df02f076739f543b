"""What lies under LoRA adapters."""

from __future__ import annotations

from torch import nn


def under_adapters(network: nn.Module) -> nn.Module:
    """The model that PEFT adapters lie around; a network without adapters as it is."""
    base = getattr(network, "get_base_model", None)
    inner = base() if callable(base) else network
    return inner if isinstance(inner, nn.Module) else network
