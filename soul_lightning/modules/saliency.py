"""Saliency masks: train only the weights that matter for what is to be forgotten."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.losses import evenly_spaced
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions
from soul_lightning.optim.curvature import GaussNewtonBartlett
from soul_lightning.progress import tracked
from soul_lightning.protocols import SuppliesStreams
from soul_lightning.sharding import here, split_like, whole

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


@dataclass(frozen=True)
class Saliency:
    r"""Which weights train.

    Attributes:
        fraction: Share of the weights that train, those with the largest score; all of them at 1.
        modules: A regular expression, searched for in parameter names (`layers\\.(5|6|7)\\.mlp`): others do not train.
        score: `gradient`: |g|, g the forget loss's gradient before training (SalUn, Fan et al. 2024).
            `gradient_curvature`: |g| · ĥ, ĥ the Gauss-Newton diagonal on the forget stream.
        batches: At most so many batches of the forget stream are scored, evenly spaced.
    """

    fraction: float = 1.0
    modules: str | None = None
    score: Literal["gradient", "gradient_curvature"] = "gradient"
    batches: int = 64

    def __post_init__(self) -> None:
        """Refuse values that leave nothing to train."""
        if not 0 < self.fraction <= 1 or self.batches < 1:
            raise MisconfigurationError(
                f"Saliency: fraction must lie in (0, 1] and batches be >= 1, got {self.fraction} and {self.batches}"
            )
        if self.score not in ("gradient", "gradient_curvature"):
            raise MisconfigurationError(f"Saliency: score must be gradient or gradient_curvature, got {self.score!r}")
        try:
            re.compile(self.modules or "")
        except re.error as error:
            raise MisconfigurationError(
                f"Saliency: modules={self.modules!r} is no regular expression: {error}"
            ) from error

    def freeze_others(self, network: nn.Module) -> None:
        """Switch off every parameter whose name `modules` does not match.

        Raises:
            MisconfigurationError: Nothing is left.
        """
        if self.modules is None:
            return
        names = []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                names.append(name)
                parameter.requires_grad_(re.search(self.modules, name) is not None)
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise MisconfigurationError(
                f"saliency.modules={self.modules!r} matches none of the {len(names)} parameters that train, "
                f"such as {', '.join(names[:3])}"
            )


class WeightMask:
    """Holds the weights outside of a mask (of saliency, of pruning) where they are, whatever the optimizer.

    A gradient of 0 would not be enough: weight decay and momentum move a weight too. The price is a second copy.

    Args:
        parameters: The parameters that train.
        masks: True where a weight trains; the shapes of `parameters`, split as they are.
    """

    def __init__(self, parameters: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self.masks = list(masks)
        self._initial = [parameter.detach().clone() for parameter in parameters]

    def hide_gradients(self) -> None:
        """Zero the gradient of every weight that is held."""
        for parameter, mask in zip(self._parameters, self.masks, strict=True):
            if parameter.grad is not None:
                here(parameter.grad).mul_(here(mask))

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo whatever the optimizer did to a weight that is held."""
        for parameter, mask, initial in zip(self._parameters, self.masks, self._initial, strict=True):
            own = here(parameter)
            own.copy_(torch.where(here(mask), own, here(initial)))


def held_weights(module: StreamModule, kept: Mapping[Tensor, Tensor], stored: Sequence[Tensor]) -> WeightMask | None:
    """The mask of a module whose weights do not all train.

    Args:
        module: Whose weights, and whose `saliency`.
        kept: Of pruned parameters: true where a weight is not pruned.
        stored: The masks of an interrupted run, which are not made anew; empty at its start.

    Returns:
        None where everything trains.

    Raises:
        MisconfigurationError: As in `salient_weights`.
    """
    is_salient = module.saliency is not None and module.saliency.fraction < 1
    if not is_salient and not kept:
        return None
    parameters = module.trainable_parameters()
    masks: Sequence[Tensor] = stored
    if not masks and module.saliency is not None and is_salient:
        masks = salient_weights(module, module.saliency)
    elif not masks:
        masks = [torch.ones(parameter.shape, dtype=torch.bool) for parameter in parameters]
    own_masks = [split_like(mask, parameter) for mask, parameter in zip(masks, parameters, strict=True)]
    for mask, parameter in zip(own_masks, parameters, strict=True):
        if parameter in kept:
            here(mask).logical_and_(here(kept[parameter]))
    return WeightMask(parameters, own_masks)


def salient_weights(module: StreamModule, saliency: Saliency) -> list[Tensor]:
    """Score every weight that trains on the forget stream and keep the largest scores.

    Every rank scores the same rows, so that nothing has to be exchanged.

    Returns:
        One boolean mask a parameter, true where the weight trains; whole where the weights are split.

    Raises:
        MisconfigurationError: There is no forget objective, or no forget stream to read.
    """
    supplier = getattr(module.trainer, "datamodule", None)
    if not isinstance(supplier, SuppliesStreams) or all(term.stream != "forget" for term in module.terms):
        raise MisconfigurationError(
            "saliency scores weights by the forget loss: give a forget objective, and a DataModule with stream()"
        )
    parameters = module.trainable_parameters()
    batches = [part for batch in supplier.stream("forget") for part in batch.split(module.micro_batches)]
    batches = evenly_spaced(batches, saliency.batches)
    with evaluation_mode(module.network), module.trainer.precision_plugin.forward_context():
        for batch in tracked(batches, "saliency", "batches"):
            loss = module.term_loss("forget", batch.to(module.device))
            loss.backward()
        scores = [_taken(parameter).abs_() for parameter in parameters]
        if saliency.score == "gradient_curvature":
            estimator = GaussNewtonBartlett()
            tokens = sum(batch.labelled_tokens for batch in batches)
            for batch in batches:
                predictions: Predictions = module(batch.to(module.device).seen_as(("answer",)))
                surrogate = estimator.surrogate(predictions, batch.index.to(module.device), 0) / max(1, tokens)
                surrogate.backward()
            for score, parameter in zip(scores, parameters, strict=True):
                score.mul_(_taken(parameter).square_())
    masks = largest(scores, saliency.fraction)
    chosen, total = sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)
    if chosen > 1.1 * saliency.fraction * total + 1:
        raise MisconfigurationError(
            f"saliency.fraction={saliency.fraction} cannot be told apart: {chosen:,} of {total:,} weights share the "
            f"score that decides, for the forget loss has no gradient in them before training (fresh adapters, or "
            f"KLMaximization); lower the fraction, or name modules instead"
        )
    rank_zero_info(f"saliency: {chosen:,} of {total:,} weights train")
    return masks


def _taken(parameter: Tensor) -> Tensor:
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    parameter.grad = None
    return whole(gradient)


def largest(scores: Sequence[Tensor], fraction: float) -> list[Tensor]:
    """Masks of the largest `fraction` of all scores taken together, at least one; equal scores share their fate.

    Args:
        scores: Tensors of any shapes, ≥ 0.
        fraction: In (0, 1].
    """
    flat = torch.cat([score.flatten() for score in scores])
    kept = max(1, round(fraction * flat.numel()))
    threshold = flat.kthvalue(flat.numel() - kept + 1).values
    return [score >= threshold for score in scores]
