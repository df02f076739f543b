"""Unlearning for language models as PyTorch Lightning parts: modules, DataModules, plugin callbacks."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.modules.finetuning import FinetuningModule
    from soul_lightning.modules.influence import InfluenceUnlearningModule
    from soul_lightning.modules.locate_edit import LocateAndEditModule
    from soul_lightning.modules.targeted import TargetedUnlearningModule
    from soul_lightning.modules.task_vector import TaskVectorModule
    from soul_lightning.modules.unlearning import UnlearningModule
    from soul_lightning.optim.curvature import EmpiricalFisher, GaussNewtonBartlett
    from soul_lightning.optim.hutchinson import Hutchinson
    from soul_lightning.optim.sophia import Sophia

__version__ = "0.1.0"

__all__ = [
    "EmpiricalFisher",
    "FinetuningModule",
    "GaussNewtonBartlett",
    "Hutchinson",
    "InfluenceUnlearningModule",
    "LocateAndEditModule",
    "Sophia",
    "TargetedUnlearningModule",
    "TaskVectorModule",
    "UnlearningModule",
]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.modules.finetuning": ["FinetuningModule"],
        "soul_lightning.modules.influence": ["InfluenceUnlearningModule"],
        "soul_lightning.modules.locate_edit": ["LocateAndEditModule"],
        "soul_lightning.modules.targeted": ["TargetedUnlearningModule"],
        "soul_lightning.modules.task_vector": ["TaskVectorModule"],
        "soul_lightning.modules.unlearning": ["UnlearningModule"],
        "soul_lightning.optim.curvature": ["EmpiricalFisher", "GaussNewtonBartlett"],
        "soul_lightning.optim.hutchinson": ["Hutchinson"],
        "soul_lightning.optim.sophia": ["Sophia"],
    },
)
