"""Forget and retain objectives, one a file."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.objectives.base import Objective
    from soul_lightning.objectives.cross_entropy import CrossEntropy
    from soul_lightning.objectives.gradient_ascent import GradientAscent
    from soul_lightning.objectives.kl_divergence import KLDivergence
    from soul_lightning.objectives.npo import NPO

__all__ = ["NPO", "CrossEntropy", "GradientAscent", "KLDivergence", "Objective"]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.objectives.base": ["Objective"],
        "soul_lightning.objectives.cross_entropy": ["CrossEntropy"],
        "soul_lightning.objectives.gradient_ascent": ["GradientAscent"],
        "soul_lightning.objectives.kl_divergence": ["KLDivergence"],
        "soul_lightning.objectives.npo": ["NPO"],
    },
)
