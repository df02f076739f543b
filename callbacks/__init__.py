"""Callbacks for any Lightning project: they measure, export, or stop a run, and need only a causal language model."""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.callbacks.base import ProbeCallback
    from soul_lightning.callbacks.curvature_monitor import CurvatureMonitor
    from soul_lightning.callbacks.dashboard import Dashboard
    from soul_lightning.callbacks.divergence_guard import Bound, DivergenceGuard
    from soul_lightning.callbacks.forget_quality import ForgetQuality
    from soul_lightning.callbacks.hidden_state_probe import HiddenStateProbe
    from soul_lightning.callbacks.hugging_face_export import HuggingFaceExport
    from soul_lightning.callbacks.logit_analysis import LogitAnalysis
    from soul_lightning.callbacks.membership import MembershipInference
    from soul_lightning.callbacks.memorization import Memorization
    from soul_lightning.callbacks.memory_estimate import MemoryEstimator
    from soul_lightning.callbacks.prompt_attack import PromptAttack
    from soul_lightning.callbacks.quantization_attack import QuantizationAttack
    from soul_lightning.callbacks.relearning_attack import RelearningAttack
    from soul_lightning.callbacks.restoration import Restoration
    from soul_lightning.callbacks.scoring import ScoringCallback
    from soul_lightning.callbacks.toxicity import Toxicity
    from soul_lightning.callbacks.utility import Utility
    from soul_lightning.records.probe_files import ProbeFile

__all__ = [
    "Bound",
    "CurvatureMonitor",
    "Dashboard",
    "DivergenceGuard",
    "ForgetQuality",
    "HiddenStateProbe",
    "HuggingFaceExport",
    "LogitAnalysis",
    "MembershipInference",
    "Memorization",
    "MemoryEstimator",
    "ProbeCallback",
    "ProbeFile",
    "PromptAttack",
    "QuantizationAttack",
    "RelearningAttack",
    "Restoration",
    "ScoringCallback",
    "Toxicity",
    "Utility",
]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.callbacks.base": ["ProbeCallback"],
        "soul_lightning.callbacks.curvature_monitor": ["CurvatureMonitor"],
        "soul_lightning.callbacks.dashboard": ["Dashboard"],
        "soul_lightning.callbacks.divergence_guard": ["Bound", "DivergenceGuard"],
        "soul_lightning.callbacks.forget_quality": ["ForgetQuality"],
        "soul_lightning.callbacks.hidden_state_probe": ["HiddenStateProbe"],
        "soul_lightning.callbacks.hugging_face_export": ["HuggingFaceExport"],
        "soul_lightning.callbacks.logit_analysis": ["LogitAnalysis"],
        "soul_lightning.callbacks.membership": ["MembershipInference"],
        "soul_lightning.callbacks.memorization": ["Memorization"],
        "soul_lightning.callbacks.memory_estimate": ["MemoryEstimator"],
        "soul_lightning.callbacks.prompt_attack": ["PromptAttack"],
        "soul_lightning.callbacks.quantization_attack": ["QuantizationAttack"],
        "soul_lightning.callbacks.relearning_attack": ["RelearningAttack"],
        "soul_lightning.callbacks.restoration": ["Restoration"],
        "soul_lightning.callbacks.scoring": ["ScoringCallback"],
        "soul_lightning.callbacks.toxicity": ["Toxicity"],
        "soul_lightning.callbacks.utility": ["Utility"],
        "soul_lightning.records.probe_files": ["ProbeFile"],
    },
)
