"""The backward passes of one optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from soul_lightning.modules.distributed import backward_sync
from soul_lightning.modules.losses import summed_losses
from soul_lightning.modules.sharpness import ascended
from soul_lightning.modules.surgery import Gradients, rectify
from soul_lightning.modules.terms import Term, TermPart
from soul_lightning.networks.predictions import Predictions
from soul_lightning.protocols import Batch
from soul_lightning.sharding import whole

if TYPE_CHECKING:
    from soul_lightning.modules.base import StreamModule


class StepBackward:
    """Leaves the gradient of a whole optimizer step in `.grad`: every term, every micro-batch.

    Args:
        module: Whose terms, network and strategy are used.
    """

    def __init__(self, module: StreamModule) -> None:
        # Held in a tuple: nn.Module's attribute hook would register the module as its own child.
        self._module = (module,)
        self.metrics: dict[str, float] = {}
        """What the last step showed, under logger names."""

    def __call__(
        self,
        parts: Mapping[str, list[Batch]],
        totals: Mapping[str, float],
        weights: Mapping[str, float],
        kept: Mapping[str, Predictions],
    ) -> dict[str, float]:
        """Backward through every term; gradients are averaged over ranks in the last pass only.

        Returns:
            The loss of each stream without its weight, over all ranks.
        """
        (module,) = self._module
        self.metrics = {}
        if not module.separates_streams:
            return self._over_ranks(self._gradients_of(module.terms, parts, totals, weights, kept))
        gradients: dict[str, Gradients] = {}
        losses: dict[str, Tensor] = {}
        # Forget comes last: a graph that the refresh left of another stream must not meet weights that were moved.
        for term in sorted(module.terms, key=lambda term: term.stream == "forget"):
            if term.stream == "forget" and module.sharpness_radius is not None:
                found = self._sharpness_aware(term, module.sharpness_radius, parts, totals, weights, kept)
            else:
                found = self._gradients_of((term,), parts, totals, weights, kept)
            losses |= found
            gradients[term.stream] = self._taken()
        if module.gradient_surgery:
            self.metrics["train/forget_retain_cosine"] = rectify(gradients["forget"], gradients["retain"])
        self._put_sums(gradients)
        return self._over_ranks({term.stream: losses[term.stream] for term in module.terms})

    def _gradients_of(
        self,
        terms: Sequence[Term],
        parts: Mapping[str, list[Batch]],
        totals: Mapping[str, float],
        weights: Mapping[str, float],
        kept: Mapping[str, Predictions],
    ) -> dict[str, Tensor]:
        """Backward through some terms; the loss of each on this process."""
        (module,) = self._module
        losses = {term.stream: torch.zeros((), device=module.device) for term in terms}
        for term in terms:
            losses[term.stream] += self._penalise(term, weights[term.stream])
        rounds = self._rounds(terms, parts, kept)
        for number, parts_of_round in enumerate(rounds, start=1):
            weighted = []
            for part, summed in zip(parts_of_round, summed_losses(module, parts_of_round), strict=True):
                stream = part.term.stream
                loss = summed / max(1.0, totals[stream])
                losses[stream] += loss.detach()
                weighted.append(loss * (weights[stream] * module.trainer.world_size))
            with backward_sync(module, is_last=number == len(rounds)):
                module.manual_backward(sum(weighted[1:], start=weighted[0]))
        return losses

    def _sharpness_aware(
        self,
        term: Term,
        radius: float,
        parts: Mapping[str, list[Batch]],
        totals: Mapping[str, float],
        weights: Mapping[str, float],
        kept: Mapping[str, Predictions],
    ) -> dict[str, Tensor]:
        """Leaves the gradient at the worst place nearby in `.grad`; the loss is that of the weights as they are."""
        (module,) = self._module
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # both passes drop out the same activations
            losses = self._gradients_of((term,), parts, totals, weights, kept)
        taken = self._taken()
        with ascended(module.trainable_parameters(), taken, radius) as has_moved:
            if has_moved:
                nearby = self._gradients_of((term,), parts, totals, weights, {})
                rise = module.sum_over_ranks((nearby[term.stream] - losses[term.stream]).double())
                self.metrics["train/sharpness"] = weights[term.stream] * float(rise)
            else:
                for parameter, gradient in zip(module.trainable_parameters(), taken, strict=True):
                    parameter.grad = gradient
        return losses

    def _taken(self) -> Gradients:
        """The gradients, without what a mask holds; `.grad` is empty afterwards."""
        (module,) = self._module
        module.hide_gradients()
        gradients = [parameter.grad for parameter in module.trainable_parameters()]
        module.zero_gradients()
        return gradients

    def _over_ranks(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        (module,) = self._module
        summed = module.sum_over_ranks(torch.stack(list(losses.values())).double())
        return dict(zip(losses, summed.tolist(), strict=True))

    def _rounds(
        self, terms: Sequence[Term], parts: Mapping[str, list[Batch]], kept: Mapping[str, Predictions]
    ) -> list[list[TermPart]]:
        """What runs forward and backward together: a micro-batch of every term where streams are joined.

        A graph that the refresh left is used first, by itself, and freed.
        """
        (module,) = self._module
        alone, rounds = [], []
        for term in terms:
            batches = module.stream_parts(parts, term.stream)
            if term.stream in kept:
                *batches, last = batches
                alone.append([TermPart(term, last, kept[term.stream])])
            rounds.append([TermPart(term, batch) for batch in reversed(batches)])
        if not module.joins_streams:
            return alone + [[part] for parts_of_term in rounds for part in parts_of_term]
        together = zip_longest(*rounds)
        return alone + [[part for part in parts_of_round if part is not None] for parts_of_round in together]

    def _penalise(self, term: Term, weight: float) -> Tensor | float:
        """Backward through a term in the weights: the same on every rank, so that the average over ranks is right."""
        (module,) = self._module
        penalty = term.objective.penalty(module.trainable_parameters())
        if penalty is None:
            return 0.0
        with backward_sync(module, is_last=False):
            module.manual_backward(penalty * weight)
        return whole(penalty.detach()) / module.trainer.world_size

    def _put_sums(self, gradients: Mapping[str, Gradients]) -> None:
        """Set every `.grad` to the sum of the terms' gradients."""
        (module,) = self._module
        for parameter, *parts in zip(module.trainable_parameters(), *gradients.values(), strict=True):
            present = [part for part in parts if part is not None]
            parameter.grad = sum(present[1:], start=present[0]) if present else None
