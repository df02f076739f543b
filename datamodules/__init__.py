"""DataModules: paired streams and probes."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.datamodules.augmentation import Augmentation
    from soul_lightning.datamodules.base import StreamDataModule
    from soul_lightning.datamodules.behavior.datamodule import BehaviorDataModule
    from soul_lightning.datamodules.copyright import CopyrightDataModule
    from soul_lightning.datamodules.corruption_generator import CorruptionGenerator
    from soul_lightning.datamodules.detox import DetoxDataModule
    from soul_lightning.datamodules.records import RecordsDataModule
    from soul_lightning.datamodules.restor import RestorDataModule
    from soul_lightning.datamodules.restor_repair import RepairDataModule
    from soul_lightning.datamodules.task import Task
    from soul_lightning.datamodules.tiny_world.datamodule import TinyWorldDataModule
    from soul_lightning.datamodules.tofu import TOFUDataModule
    from soul_lightning.datamodules.wmdp import WMDPDataModule
    from soul_lightning.records.sources import RecordSource

__all__ = [
    "Augmentation",
    "BehaviorDataModule",
    "CopyrightDataModule",
    "CorruptionGenerator",
    "DetoxDataModule",
    "RecordSource",
    "RecordsDataModule",
    "RepairDataModule",
    "RestorDataModule",
    "StreamDataModule",
    "TOFUDataModule",
    "Task",
    "TinyWorldDataModule",
    "WMDPDataModule",
]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.datamodules.augmentation": ["Augmentation"],
        "soul_lightning.datamodules.base": ["StreamDataModule"],
        "soul_lightning.datamodules.behavior.datamodule": ["BehaviorDataModule"],
        "soul_lightning.datamodules.copyright": ["CopyrightDataModule"],
        "soul_lightning.datamodules.corruption_generator": ["CorruptionGenerator"],
        "soul_lightning.datamodules.detox": ["DetoxDataModule"],
        "soul_lightning.records.sources": ["RecordSource"],
        "soul_lightning.datamodules.records": ["RecordsDataModule"],
        "soul_lightning.datamodules.restor": ["RestorDataModule"],
        "soul_lightning.datamodules.restor_repair": ["RepairDataModule"],
        "soul_lightning.datamodules.task": ["Task"],
        "soul_lightning.datamodules.tiny_world.datamodule": ["TinyWorldDataModule"],
        "soul_lightning.datamodules.tofu": ["TOFUDataModule"],
        "soul_lightning.datamodules.wmdp": ["WMDPDataModule"],
    },
)
