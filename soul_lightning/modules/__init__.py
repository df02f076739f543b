"""LightningModules: manual loops around forget and retain objectives."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.modules.finetuning import FinetuningModule
    from soul_lightning.modules.influence import InfluenceUnlearningModule
    from soul_lightning.modules.locate_edit import LocateAndEditModule
    from soul_lightning.modules.targeted import TargetedUnlearningModule
    from soul_lightning.modules.task_vector import TaskVectorModule
    from soul_lightning.modules.unlearning import UnlearningModule

__all__ = [
    "FinetuningModule",
    "InfluenceUnlearningModule",
    "LocateAndEditModule",
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
    },
)
