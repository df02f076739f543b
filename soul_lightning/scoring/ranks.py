"""Which part of a measurement a process does, and how all of them come to hold the whole of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch.distributed as dist
from torch import nn

from soul_lightning.sharding import has_split_weights

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Deals batches of work to the processes of a run, each batch to one of them.

    Batches are formed before they are dealt, so that a batch holds the same rows, and gives the same numbers, however
    many processes there are; nothing is padded, and no row is counted twice.

    Attributes:
        rank: Number of this process.
        size: How many processes share the work; 1: this one does all of it.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, trainer: Trainer, network: nn.Module) -> Ranks:
        """The processes of `trainer`; each does all the work where they hold parts of the weights.

        A network whose weights are split runs only when every process calls it, with batches of its own or not.
        """
        if trainer.world_size == 1 or not dist.is_initialized() or has_split_weights(network):
            return cls()
        return cls(trainer.global_rank, trainer.world_size)

    def share(self, work: Sequence[Work]) -> list[Work]:
        """The part of `work` that this process does: every `size`-th piece."""
        return list(work[self.rank :: self.size])

    def gather(self, results: Mapping[int, Result]) -> dict[int, Result]:
        """The results of all processes, by the places of the rows; every process must call it."""
        if self.size == 1:
            return dict(results)
        parts: list[Mapping[int, Result] | None] = [None] * self.size
        dist.all_gather_object(parts, dict(results))
        return {place: result for part in parts if part is not None for place, result in part.items()}
