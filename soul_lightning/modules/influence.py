"""Influence unlearning: one Newton step in place of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.modules.one_shot import OneShotModule
from soul_lightning.modules.saliency import Saliency
from soul_lightning.modules.terms import Term
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.optim.curvature import GaussNewtonBartlett
from soul_lightning.optim.inverse_hessian import ConjugateGradient, InverseHessian, LossSum, influence_update
from soul_lightning.protocols import Batch
from soul_lightning.schedules import as_schedule


class InfluenceUnlearningModule(OneShotModule):
    """Takes the forget rows' influence out in one step: θ = c + (Σ_r ∇²ℓ + λI)⁻¹ Σ_f ∇ℓ.

    The static baseline of SOUL (Jia et al. 2024), after Koh and Liang (2017). ℓ is a row's NLL *summed* over its
    labelled tokens; Σ_f and Σ_r run over the forget and the retain stream. (With mean losses the update carries the
    factor N_f / N_r.) The formula assumes that c minimises forget and retain losses together, which a fine-tuned
    language model does not quite: `assume_stationary=False` is the Newton step on the retain losses alone,
    −(Σ_r ∇²ℓ + λI)⁻¹ Σ_r ∇ℓ, in which the forget rows play no part.

    Under `fit` the whole update is one optimizer step, see `OneShotModule`.

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
            micro_batches=micro_batches,
            saliency=saliency,
            tokenizer=tokenizer,
        )
        self.solver = solver or ConjugateGradient()
        self.damping = damping
        self.assume_stationary = assume_stationary
        self.retain_batches = retain_batches
        self.sampler = GaussNewtonBartlett(seed=seed)

    def leave_update(self) -> tuple[str, dict[str, float]]:
        """Solve for the update."""
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
        metrics = {
            "train/gradient_norm": float(right_side.norm()),
            "train/update_norm": norm,
            "train/solver_iterations": float(solution.iterations),
        }
        said = f"influence update: norm {norm:.3g}, solver iterations {solution.iterations}"
        if solution.residual is not None:
            metrics["train/residual"] = solution.residual
            said += f", relative residual {solution.residual:.2g}"
        return said, metrics

    def _loss_sum(self, stream: str) -> LossSum:
        """The summed NLL of a stream, one portion a micro-batch."""
        batches, weight = self.read(stream, self.retain_batches if stream == "retain" else None)
        mask = parameters_to_vector(self._mask.masks) if self._mask is not None else None
        return LossSum(
            [partial(self._loss, stream, batch) for batch in batches],
            self.trainable_parameters(),
            [partial(self._sampled_loss, batch) for batch in batches],
            weight,
            mask,
        )

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
