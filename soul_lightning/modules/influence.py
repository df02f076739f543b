"""Influence unlearning: one Newton step in place of training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.modules.base import StreamModule
from soul_lightning.modules.saliency import Saliency
from soul_lightning.modules.terms import Term
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.optim.curvature import GaussNewtonBartlett
from soul_lightning.optim.inverse_hessian import ConjugateGradient, InverseHessian, LossSum, influence_update
from soul_lightning.protocols import Batch, Step, SuppliesStreams
from soul_lightning.schedules import as_schedule


class InfluenceUnlearningModule(StreamModule):
    """Takes the forget rows' influence out in one step: θ = c + (Σ_r ∇²ℓ + λI)⁻¹ Σ_f ∇ℓ.

    The static baseline of SOUL (Jia et al. 2024), after Koh and Liang (2017). ℓ is a row's NLL *summed* over its
    labelled tokens; Σ_f and Σ_r run over the forget and the retain stream. (With mean losses the update carries the
    factor N_f / N_r.) The formula assumes that c minimises forget and retain losses together, which a fine-tuned
    language model does not quite: `assume_stationary=False` is the Newton step on the retain losses alone,
    −(Σ_r ∇²ℓ + λI)⁻¹ Σ_r ∇ℓ, in which the forget rows play no part.

    Under `fit` the whole update is the first optimizer step, and training ends with its epoch whatever
    `trainer.max_epochs` says; callbacks, checkpoints and export work as they do for a trained model. Under DDP every
    process reads the same rows of `DataModule.stream` and computes the same update: nothing is communicated, and
    nothing gained.

    There is no limit on the update's norm besides λ, which bounds it by ‖b‖ / λ, b the gradient: a second knob of the
    same effect would only blur what was run.

    Args:
        network: Where the model comes from, or the model itself.
        solver: How the inverse is applied; `ConjugateGradient` if none is given.
        damping: λ, in the units of the summed Hessian. The quadratic picture holds near c only, and the Hessian of a
            network may bend downwards: raise it until the update is small.
        assume_stationary: Start from the forget gradient, or else from the retain gradient.
        retain_batches: Read so many of the retain stream's batches, evenly spaced, to stand for all of them (by
            labelled tokens); all if none is given.
        micro_batches: Backward passes that each batch is cut into: less memory. Second derivatives take about twice
            the memory of a training step.
        saliency: Moves a part of the weights only; the system is solved in their coordinates.
        seed: Seed of sampled labels.
        tokenizer: The tokenizer of a `network` given as a model.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    needs_whole_weights = True

    def __init__(
        self,
        network: PretrainedNetwork | PreTrainedModel,
        solver: InverseHessian | None = None,
        damping: float = 1.0,
        assume_stationary: bool = True,
        retain_batches: int | None = None,
        micro_batches: int = 1,
        saliency: Saliency | None = None,
        seed: int = 0,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        if damping < 0 or (retain_batches is not None and retain_batches < 1):
            raise MisconfigurationError(
                f"InfluenceUnlearningModule: damping must be >= 0 and retain_batches >= 1 or none, "
                f"got {damping} and {retain_batches}"
            )
        super().__init__(
            network=network,
            terms=[Term(name, CrossEntropy(), as_schedule(1.0)) for name in ("forget", "retain")],
            optimizer=partial(SGD, lr=1.0),  # whose step from the gradient −Δ is Δ
            lr_scheduler=None,
            curvature=None,
            micro_batches=micro_batches,
            max_grad_norm=None,
            max_skipped_steps=0,
            saliency=saliency,
            tokenizer=tokenizer,
        )
        self.solver = solver or ConjugateGradient()
        self.damping = damping
        self.assume_stationary = assume_stationary
        self.retain_batches = retain_batches
        self.sampler = GaussNewtonBartlett(seed=seed)

    @property
    def total_steps(self) -> int:
        """One."""
        return 1

    def training_step(self, step: Step, batch_idx: int) -> None:
        """Compute the update from the whole streams and take it; `step`'s own rows are not looked at."""
        self.trainer.should_stop = True
        if self.global_step > 0:  # trainer.min_epochs, or a resume
            return
        started = time.perf_counter()
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        parameters = self.trainable_parameters()
        with self._differentiable_twice():
            solution, right_side = influence_update(
                self._loss_sum("forget"), self._loss_sum("retain"), self.solver, self.damping, self.assume_stationary
            )
        norm = float(solution.vector.norm())
        if not torch.isfinite(solution.vector).all():
            raise TrainingDivergedError(
                f"the influence update is not finite; raise damping (now {self.damping:g}) or use another solver"
            )
        if norm == 0:
            rank_zero_warn(f"the influence update is 0 and the model stays as it is; damping is {self.damping:g}")
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, change in zip(parameters, solution.vector.split(sizes), strict=True):
            parameter.grad = change.view_as(parameter).neg()
        optimizer.step()
        self.zero_gradients()
        seconds = time.perf_counter() - started
        metrics = {
            "train/gradient_norm": float(right_side.norm()),
            "train/update_norm": norm,
            "train/solver_iterations": float(solution.iterations),
            "train/seconds": seconds,
        }
        if solution.residual is not None:
            metrics["train/residual"] = solution.residual
        rank_zero_info(
            f"influence update: norm {norm:.3g}, solver iterations {solution.iterations}"
            + (f", relative residual {solution.residual:.2g}" if solution.residual is not None else "")
            + f", {seconds:.0f} s"
        )
        self.log_dict(metrics | {"step": float(self.global_step)})

    def _loss_sum(self, stream: str) -> LossSum:
        """The summed NLL of a stream, one portion a micro-batch."""
        batches, weight = self._batches(stream)
        mask = parameters_to_vector(self._mask.masks) if self._mask is not None else None
        return LossSum(
            [partial(self._loss, stream, batch) for batch in batches],
            self.trainable_parameters(),
            [partial(self._sampled_loss, batch) for batch in batches],
            weight,
            mask,
        )

    def _batches(self, stream: str) -> tuple[list[Batch], float]:
        """What is read of a stream, and for how many times its labelled tokens that stands."""
        supplier = getattr(self.trainer, "datamodule", None)
        if not isinstance(supplier, SuppliesStreams):
            raise MisconfigurationError(
                f"InfluenceUnlearningModule reads whole streams, and {type(supplier).__name__} has no stream(); use a "
                f"DataModule of this package"
            )
        batches = list(supplier.stream(stream))
        chosen = batches
        if stream == "retain" and self.retain_batches is not None and self.retain_batches < len(batches):
            places = torch.linspace(0, len(batches) - 1, self.retain_batches).round().int().tolist()
            chosen = [batches[place] for place in places]
        every, read = (sum(batch.labelled_tokens for batch in some) for some in (batches, chosen))
        return [part for batch in chosen for part in batch.split(self.micro_batches)], every / max(1, read)

    def _loss(self, stream: str, batch: Batch) -> Tensor:
        return self.term_loss(stream, batch.to(self.device))

    def _sampled_loss(self, batch: Batch, draw: int) -> Tensor:
        there = batch.to(self.device)
        predictions: Predictions = self(there)
        return self.sampler.surrogate(predictions, there.index, draw)

    @contextmanager
    def _differentiable_twice(self) -> Iterator[None]:
        """No dropout, the plain attention kernel, uncompiled code, and the weights' own precision.

        Fused and compiled kernels differentiate once; second derivatives of a bf16 forward pass are mostly rounding.
        """
        with ExitStack() as stack:
            stack.enter_context(evaluation_mode(self.network))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            yield
