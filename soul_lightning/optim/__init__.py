"""Second-order optimizers and their curvature estimators."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.optim.curvature import CurvatureEstimator, GaussNewtonBartlett
    from soul_lightning.optim.sophia import Sophia

__all__ = ["CurvatureEstimator", "GaussNewtonBartlett", "Sophia"]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.optim.curvature": ["CurvatureEstimator", "GaussNewtonBartlett"],
        "soul_lightning.optim.sophia": ["Sophia"],
    },
)
