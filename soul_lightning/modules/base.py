"""The manual training loop that every module here shares: several streams, one optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.backward import StepBackward
from soul_lightning.modules.distributed import refuse_strategy
from soul_lightning.modules.guard import StepGuard
from soul_lightning.modules.losses import count_units, micro_batches, summed_losses
from soul_lightning.modules.pruning import Pruning
from soul_lightning.modules.random_state import random_state, set_random_state
from soul_lightning.modules.references import StreamReferences
from soul_lightning.modules.refresh import CurvatureRefresh
from soul_lightning.modules.saliency import Saliency, WeightMask, held_weights
from soul_lightning.modules.sharpness import refuse_radius
from soul_lightning.modules.surgery import refuse_surgery
from soul_lightning.modules.terms import Term, TermPart
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.joint import JointForward, Request
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.predictions import Predictions
from soul_lightning.networks.quantization import keep_differentiable
from soul_lightning.networks.reference import ReferencePolicyName
from soul_lightning.optim.curvature import CurvatureEstimator
from soul_lightning.protocols import Batch, Step, View
from soul_lightning.schedules import LearningRateSchedule
from soul_lightning.sharding import reshard, split_weights, whole

OptimizerFactory = Callable[[Iterable[Tensor]], Optimizer]


def default_optimizer(parameters: Iterable[Tensor]) -> Optimizer:
    """AdamW with torch's defaults, in its fused form: about three times as fast as its loop on a CPU."""
    return AdamW(parameters, fused=True)


class StreamModule(LightningModule):
    """Trains a causal language model on the streams of a `Step`; one `training_step` is one optimizer step.

    The loss is Σ weight · Σ_units loss / N, N the stream's labelled tokens (or sequences) in the whole step: all
    micro-batches, all ranks. It is known before the first backward pass, so that `micro_batches` changes memory and
    nothing else.

    Args:
        network: Where the model comes from, or the model itself (then give `tokenizer`).
        terms: The summands of the loss.
        optimizer: Makes the optimizer from the parameters that train.
        lr_scheduler: Learning rate over the optimizer steps; constant if none is given.
        curvature: Refreshes the curvature of a second-order optimizer (`Sophia`); none for first-order ones.
        micro_batches: Backward passes that each stream's batch is cut into.
        max_grad_norm: Gradients are scaled down to this L2 norm; none leaves them as they are.
        max_skipped_steps: So many steps in a row may be skipped for a non-finite loss or gradient before the run stops.
        reference_policy: How the reference model is kept, see `soul_lightning.networks.reference`.
        reference_top_k: Tokens that the policy `top_k_logits` keeps at each position.
        gradient_surgery: `gru` drops the component of the forget gradient that works against retain, see `rectify`.
        saliency: Trains a part of the weights only.
        sharpness_radius: ρ of sharpness-aware unlearning, see `ascended`.
        pruning: Sets the smallest weights to 0 before the first step, and keeps them there.
        tokenizer: The tokenizer of a `network` given as a model.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    network: nn.Module
    needs_whole_weights = False
    """Whether the module cannot work on weights that lie in parts on several processes."""

    def __init__(
        self,
        network: PretrainedNetwork | PreTrainedModel,
        terms: Iterable[Term],
        optimizer: OptimizerFactory,
        lr_scheduler: LearningRateSchedule | None,
        curvature: CurvatureEstimator | None,
        micro_batches: int,
        max_grad_norm: float | None,
        max_skipped_steps: int,
        reference_policy: ReferencePolicyName = "auto",
        reference_top_k: int = 64,
        gradient_surgery: Literal["gru"] | None = None,
        saliency: Saliency | None = None,
        sharpness_radius: float | None = None,
        pruning: Pruning | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if micro_batches < 1:
            raise MisconfigurationError(f"{type(self).__name__}: micro_batches must be >= 1, got {micro_batches}")
        if max_grad_norm is not None and max_grad_norm <= 0:
            raise MisconfigurationError(f"{type(self).__name__}: max_grad_norm must be above 0, got {max_grad_norm}")
        self.source = network if isinstance(network, PretrainedNetwork) else None
        if not isinstance(network, PretrainedNetwork):
            keep_differentiable(network)
            self.network = network
        self.terms = tuple(terms)
        if not self.terms:
            raise MisconfigurationError(f"{type(self).__name__} has nothing to train: give forget, retain or both")
        streams = {term.stream for term in self.terms}
        refuse_surgery(gradient_surgery, streams)
        refuse_radius(sharpness_radius, streams)
        self.optimizer_factory = optimizer
        self.learning_rate_schedule = lr_scheduler or LearningRateSchedule(decay="constant")
        self.curvature = curvature
        self.micro_batches = micro_batches
        self.max_grad_norm = max_grad_norm
        self.gradient_surgery = gradient_surgery
        self.sharpness_radius = sharpness_radius
        self.saliency = saliency
        self.pruning = pruning
        self.guard = StepGuard(max_skipped_steps)
        self.rows_seen = 0
        self.curvature_passes = 0
        self.losses: dict[str, float] = {}  # of each stream at the last step, over all ranks
        self._tokenizer = tokenizer
        self.references = StreamReferences(reference_policy, reference_top_k)
        self._mask: WeightMask | None = None
        self._stored_masks: list[Tensor] = []
        self._backward = StepBackward(self)
        self._joint_forward = JointForward()
        self._random_state: dict[str, Tensor] = {}
        self._refresh = CurvatureRefresh(self, curvature) if curvature is not None else None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, loaded at first use.

        Raises:
            MisconfigurationError: The network was given as a model without one.
        """
        if self._tokenizer is None:
            if self.source is None:
                raise MisconfigurationError(
                    f"{type(self).__name__} was given a model without its tokenizer; pass tokenizer=…"
                )
            self._tokenizer = self.source.load_tokenizer()
        return self._tokenizer

    def configure_model(self) -> None:
        """Load the network, once; under `ModelParallelStrategy` split its weights over the processes (FSDP2)."""
        if self.source is not None and not hasattr(self, "network"):
            self.network = self.source.load_network()
        if self.saliency is not None:
            self.saliency.freeze_others(self.network)
        if self.device_mesh is not None:  # ModelParallelStrategy
            split_weights(self.network, self.device_mesh["data_parallel"])

    def views(self) -> Mapping[str, tuple[View, ...]]:
        """Which texts of each stream's rows the objectives read."""
        return {term.stream: term.objective.views for term in self.terms}

    def trainable_parameters(self) -> list[Tensor]:
        """The parameters that train, in the optimizer's order."""
        reshard(self.network)
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    @property
    def separates_streams(self) -> bool:
        """Whether each stream's gradient is wanted by itself."""
        return self.gradient_surgery is not None or self.sharpness_radius is not None

    @property
    def joins_streams(self) -> bool:
        """Whether a micro-batch of every stream shares a pass through the network: faster, for less is padding.

        Where most weights are frozen, activations are most of what a run holds: then one stream's at a time.
        """
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in self.network.parameters()]
        trainable = sum(size for size, trains in sizes if trains)
        return not self.separates_streams and 2 * trainable > sum(size for size, _ in sizes)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer over what trains, and the learning rate over the optimizer steps of the whole run."""
        trainable = self.trainable_parameters()
        if not trainable:
            raise MisconfigurationError("no parameter of the network trains; set requires_grad, or network.lora")
        low = {str(p.dtype) for p in trainable if p.dtype in (torch.bfloat16, torch.float16)}
        if low:
            raise MisconfigurationError(
                f"the weights that train are {low.pop()}, which loses most updates at unlearning rates; keep "
                f"network.dtype float32 and set trainer.precision to bf16-mixed"
            )
        optimizer = self.optimizer_factory(trainable)
        if self.curvature is not None and not hasattr(optimizer, "fold_curvature"):
            raise MisconfigurationError(
                f"curvature {type(self.curvature).__name__} has no use with the first-order optimizer "
                f"{type(optimizer).__name__}; choose Sophia, or leave curvature out"
            )
        if self.curvature is None and hasattr(optimizer, "fold_curvature"):
            rank_zero_warn(
                f"{type(optimizer).__name__} without a curvature takes a sign step every time; for second-order steps "
                f"set curvature, as in GaussNewtonBartlett"
            )
        scheduler = self.learning_rate_schedule.build(optimizer, self.scheduled_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run.

        Raises:
            MisconfigurationError: The run has no end.
        """
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise MisconfigurationError(
                "a run without an end has no schedules over its progress; set trainer.max_epochs or trainer.max_steps"
            )
        return max(1, int(steps))

    @property
    def scheduled_steps(self) -> int:
        """Optimizer steps that the learning rate and the weights run over: all of them."""
        return self.total_steps

    def forward(self, batch: Batch, hidden_layer: int | None = None) -> Predictions:
        """What the network says at the labelled positions of `batch` and of its alternatives."""
        return label_predictions(self.network, batch, hidden_layer)

    def setup(self, stage: str) -> None:
        """Refuse a Trainer whose strategy or precision the manual loop cannot serve."""
        refuse_strategy(self)
        precision = str(self.trainer.precision)
        if precision not in ("32-true", "64-true", "bf16-mixed"):
            raise MisconfigurationError(
                f"trainer.precision {precision!r} is not supported: weights that train stay in float32; "
                f"use 32-true or bf16-mixed"
            )

    def on_train_start(self) -> None:
        """Prune, fix the reference and the mask before the first step, or take back those of an interrupted run."""
        kept = self.pruning.prune(self.network) if self.pruning is not None else {}
        self.references.fix(self)
        if self._refresh is not None and self.global_step == 0:
            self._refresh.start()
        self._mask = held_weights(self, kept, self._stored_masks)
        set_random_state(self._random_state, self.device)
        self._random_state = {}

    def training_step(self, step: Step, batch_idx: int) -> None:
        """One optimizer step: refresh the curvature when due, then backward through every micro-batch, clip, step."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        weights = self.term_weights(min(1.0, self.global_step / self.scheduled_steps))
        parts = {name: micro_batches(self, batch) for name, batch in step.batches.items()}
        totals, rows = count_units(self, parts)
        self.rows_seen += rows
        if step.request is not None:
            self.log("train/request", float(step.request))
        # An estimate reads what it finds in `.grad`: nothing of the step before may stand there.
        self.zero_gradients()
        kept: dict[str, Predictions] = {}
        if self._refresh is not None:
            self.curvature_passes += self._refresh.clock.is_due(self.global_step)
            kept = self._refresh(optimizer.optimizer, parts, self._reusable, self.global_step)
            self.zero_gradients()
        self.losses = losses = self._backward(parts, totals, weights, kept)
        self.hide_gradients()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.network.parameters() if p.grad is not None])
        whole_norm = whole(norm)
        if not self.guard.admits(self.global_step, losses, whole_norm):
            self.zero_gradients()
            self.log_dict(self._counts)  # the last step may be one that is skipped
            return
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), self.max_grad_norm, norm)
        rate = optimizer.param_groups[0]["lr"]
        torch.clear_autocast_cache()  # the weights in bfloat16, which nothing reads again
        optimizer.step()
        if self._mask is not None:
            self._mask.put_back()
        scheduler = self.lr_schedulers()
        assert scheduler is not None and not isinstance(scheduler, list)
        scheduler.step()
        for term in self.terms:
            term.weight.observe(losses[term.stream])
        self._log(losses, weights, whole_norm, rate, optimizer.optimizer)

    def validation_step(self, batch: object, batch_idx: int) -> None:
        """Nothing: callbacks measure, and Lightning wants a step for them to do it after."""

    def test_step(self, batch: object, batch_idx: int) -> None:
        """Nothing, as in `validation_step`."""

    @property
    def _reusable(self) -> frozenset[str]:
        """Streams whose loss reads nothing but the logits of their own answers."""
        return frozenset(
            term.stream
            for term in self.terms
            if term.objective.views == ("answer",) and term.objective.hidden_layer is None
        )

    def hide_gradients(self) -> None:
        """Zero the gradients of the weights that a mask holds."""
        if self._mask is not None:
            self._mask.hide_gradients()

    def zero_gradients(self) -> None:
        """Free every gradient."""
        for parameter in self.trainable_parameters():
            parameter.grad = None

    def term_weights(self, progress: float) -> Mapping[str, float]:
        """The weight of each stream at `progress`."""
        return {term.stream: term.weight(progress) for term in self.terms}

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """`values` added up over all processes."""
        reduced = self.trainer.strategy.reduce(values, reduce_op="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    @staticmethod
    def stream_parts(parts: Mapping[str, list[Batch]], name: str) -> list[Batch]:
        """The micro-batches of a stream, or one sentence that names those there are."""
        if name not in parts:
            raise MisconfigurationError(
                f"the DataModule supplies the streams {', '.join(parts) or 'none'}, and the module trains on {name!r}; "
                f"name a stream that is supplied"
            )
        return parts[name]

    def term_loss(self, stream: str, batch: Batch) -> Tensor:
        """The loss of a stream's objective summed over the units of some rows, without its weight."""
        (term,) = (term for term in self.terms if term.stream == stream)
        return summed_losses(self, [TermPart(term, batch)])[0]

    def predict(self, requests: Sequence[Request]) -> list[Predictions]:
        """What the network says about the rows of each request, out of one pass."""
        return self._joint_forward(self.network, requests)

    def run_backward(self, loss: Tensor, *, retain_graph: bool) -> None:
        """`manual_backward`, typed: scaled and synchronised as the strategy wants it."""
        self.manual_backward(loss, retain_graph=retain_graph)

    def _log(
        self,
        losses: Mapping[str, float],
        weights: Mapping[str, float],
        norm: Tensor,
        rate: float,
        optimizer: Optimizer,
    ) -> None:
        self.log_dict({f"train/{name}_loss": value for name, value in losses.items()}, prog_bar=True)
        others = {
            "train/loss": sum(weights[name] * value for name, value in losses.items()),
            "train/learning_rate": rate,
            "train/gradient_norm": float(norm),
            **self._counts,
        }
        others |= {f"train/{name}_weight": weight for name, weight in weights.items()} | self._backward.metrics
        if self._refresh is not None:
            others |= self._refresh.metrics_after(optimizer)
        self.log_dict(others)

    @property
    def _counts(self) -> dict[str, float]:
        """What adds up over the run, under logger names."""
        counts = {
            "train/skipped_steps": float(self.guard.skipped),
            "train/skipped_in_a_row": float(self.guard.in_a_row),
            "train/rows": float(self.rows_seen),
            "step": float(self.global_step),  # the loggers' axis: optimizer steps, not batches
        }
        return counts | ({"curvature/passes": float(self.curvature_passes)} if self._refresh is not None else {})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what Lightning does not, as plain tensors: the reference, and the random numbers' state (dropout)."""
        checkpoint["soul_lightning"] = {
            "references": self.references.state_dict(),
            "random": random_state(self.device),
            "guard": self.guard.state_dict(),
            "rows_seen": self.rows_seen,
            "curvature_passes": self.curvature_passes,
            "weights": {term.stream: term.weight.state_dict() for term in self.terms},
            "masks": [whole(mask) for mask in self._mask.masks] if self._mask is not None else [],
            "refresh": self._refresh.state_dict() if self._refresh is not None else {},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back; it is put in place when training goes on."""
        stored = checkpoint.get("soul_lightning", {})
        self.references.load_state_dict(stored.get("references", {}))
        self._stored_masks = stored.get("masks", [])
        for term in self.terms:
            if stored.get("weights", {}).get(term.stream):
                term.weight.load_state_dict(stored["weights"][term.stream])
        if self._refresh is not None and stored.get("refresh"):
            self._refresh.load_state_dict(stored["refresh"])
        self._random_state = stored.get("random", {})
        if stored.get("guard"):
            self.guard.load_state_dict(stored["guard"])
        self.rows_seen = stored.get("rows_seen", 0)
        self.curvature_passes = stored.get("curvature_passes", 0)
