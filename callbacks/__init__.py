"""Callbacks that measure: they need a causal language model and a tokenizer, and never change training."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.callbacks.base import ProbeCallback
    from soul_lightning.callbacks.membership import MembershipInference
    from soul_lightning.callbacks.restoration import Restoration
    from soul_lightning.callbacks.utility import Utility

__all__ = ["MembershipInference", "ProbeCallback", "Restoration", "Utility"]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.callbacks.base": ["ProbeCallback"],
        "soul_lightning.callbacks.membership": ["MembershipInference"],
        "soul_lightning.callbacks.restoration": ["Restoration"],
        "soul_lightning.callbacks.utility": ["Utility"],
    },
)
