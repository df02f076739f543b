"""The backward passes of one optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from soul_lightning.modules.distributed import backward_sync
from soul_lightning.modules.losses import summed_losses
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
        losses = {term.stream: torch.zeros((), device=module.device) for term in module.terms}
        # Surgery needs each term's gradient by itself; otherwise all terms share one set of gradients.
        groups = [(term,) for term in module.terms] if module.gradient_surgery else [module.terms]
        gradients: dict[str, Gradients] = {}
        for terms in groups:
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
            if module.gradient_surgery:
                module.hide_gradients()  # what a mask holds takes no part in the conflict
                gradients[terms[0].stream] = [parameter.grad for parameter in module.trainable_parameters()]
                module.zero_gradients()
        if module.gradient_surgery:
            cosine = rectify(gradients["forget"], gradients["retain"])
            self.metrics = {"train/forget_retain_cosine": cosine}
            self._put_sums(gradients)
        summed_over_ranks = module.sum_over_ranks(torch.stack(list(losses.values())).double())
        return dict(zip(losses, summed_over_ranks.tolist(), strict=True))

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
