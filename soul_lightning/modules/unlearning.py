"""Unlearning: a forget and a retain objective on paired streams."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.cli import OptimizerCallable
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.modules.base import StreamModule, default_optimizer
from soul_lightning.modules.pruning import Pruning
from soul_lightning.modules.saliency import Saliency
from soul_lightning.modules.terms import Term
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.reference import ReferencePolicyName
from soul_lightning.objectives.base import Objective
from soul_lightning.optim.curvature import CurvatureEstimator
from soul_lightning.schedules import LearningRateSchedule, WeightSchedule, as_schedule


class UnlearningModule(StreamModule):
    """Unlearns the forget stream and keeps the retain stream: forget_weight · L_f + retain_weight · L_r.

    With `optimizer=Sophia` and a `curvature` this is SOUL (Jia et al. 2024); with a first-order optimizer and no
    curvature the same objectives in their usual form.

    Args:
        network: Where the model comes from (`pretrained_model_name_or_path` and more), or the model itself.
        forget: Objective on the forget stream; none trains on retain alone (the baseline that every table needs).
        retain: Objective on the retain stream; none for forgetting alone.
        forget_weight: Weight of the forget objective, a number or a schedule over training progress.
        retain_weight: Weight of the retain objective.
        optimizer: Any optimizer, by class path; fused `AdamW` with its own defaults if none is given.
        lr_scheduler: Warm-up and decay of the learning rate, per optimizer step; constant if none is given.
        curvature: Curvature estimator of a second-order optimizer.
        micro_batches: Backward passes that each stream's batch is cut into: less memory, the same gradient.
        max_grad_norm: Gradients are scaled down to this L2 norm.
        max_skipped_steps: So many non-finite steps in a row are skipped before the run stops.
        reference_policy: How the model before unlearning is kept for objectives that compare with it.
        reference_top_k: Tokens that the policy `top_k_logits` keeps at each position.
        gradient_surgery: `gru` drops the component of the forget gradient that works against retain.
        saliency: Trains a part of the weights only: those that matter for the forget loss, or modules by name.
        sharpness_radius: Sharpness-aware unlearning (Fan et al. 2025): the forget gradient is taken at
            θ + ρ · g / ‖g‖₂, g the forget gradient at θ and ρ this radius, so that a step back of that length undoes
            less; it needs a second pass over the forget rows, and a copy of what trains.
        pruning: Sets the smallest weights to 0 before the first step, and keeps them there.
        tokenizer: The tokenizer of a `network` given as a model.
    """

    def __init__(
        self,
        network: PretrainedNetwork | PreTrainedModel,
        forget: Objective | None = None,
        retain: Objective | None = None,
        forget_weight: float | WeightSchedule = 1.0,
        retain_weight: float | WeightSchedule = 1.0,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LearningRateSchedule | None = None,
        curvature: CurvatureEstimator | None = None,
        micro_batches: int = 1,
        max_grad_norm: float | None = 1.0,
        max_skipped_steps: int = 5,
        reference_policy: ReferencePolicyName = "auto",
        reference_top_k: int = 64,
        gradient_surgery: Literal["gru"] | None = None,
        saliency: Saliency | None = None,
        sharpness_radius: float | None = None,
        pruning: Pruning | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        pairs = (("forget", forget, forget_weight), ("retain", retain, retain_weight))
        super().__init__(
            network=network,
            terms=[Term(name, objective, as_schedule(weight)) for name, objective, weight in pairs if objective],
            optimizer=optimizer or default_optimizer,
            lr_scheduler=lr_scheduler,
            curvature=curvature,
            micro_batches=micro_batches,
            max_grad_norm=max_grad_norm,
            max_skipped_steps=max_skipped_steps,
            reference_policy=reference_policy,
            reference_top_k=reference_top_k,
            gradient_surgery=gradient_surgery,
            saliency=saliency,
            sharpness_radius=sharpness_radius,
            pruning=pruning,
            tokenizer=tokenizer,
        )
