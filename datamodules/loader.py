"""The training loader: which rows make up each optimizer step, as a pure function of (seed, step, rank)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from soul_lightning.datamodules.streamed_plan import EncodedStream, StreamedPlan
from soul_lightning.encoding import EncodedExample, collate
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Step

LENGTH_GROUP_WINDOWS = 8
"""So many optimizer steps' rows are drawn at random and then sorted by length: an eighth of the spread is padded, and
rows of one kind, which tend to be of one length, still meet others."""


class BatchPlan:
    """Endless passes over rows in memory, each a fresh permutation without replacement, in length-grouped batches.

    Batch k is the same whatever was drawn before. A pass is cut into batches of nearly equal size, so that none is a
    remnant of a row or two.

    Args:
        rows: Encoded rows.
        batch_size: Most rows in a batch, over all ranks.
        seed: Seed of the permutations.
        group_windows: So many batches' rows are sorted by length together; 1 leaves the rows as they were drawn.
    """

    def __init__(
        self, rows: Sequence[EncodedExample], batch_size: int, seed: int, group_windows: int = LENGTH_GROUP_WINDOWS
    ) -> None:
        self._rows = rows
        self._lengths = torch.tensor([len(row) for row in rows])
        self._seed = seed
        self._group_windows = group_windows
        self.batches_per_pass = -(-len(rows) // batch_size)
        self._pass_number = -1
        self._batches: list[list[int]] = []

    def __getitem__(self, number: int) -> list[EncodedExample]:
        """Rows of batch `number`, shortest first."""
        pass_number, place = divmod(number, self.batches_per_pass)
        if pass_number != self._pass_number:
            self._batches = self._draw(pass_number)
            self._pass_number = pass_number
        return [self._rows[row] for row in self._batches[place]]

    def _draw(self, pass_number: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + pass_number)
        order = torch.randperm(len(self._lengths), generator=generator)
        drawn = order.tensor_split(self.batches_per_pass)
        batches: list[torch.Tensor] = []
        for start in range(0, len(drawn), self._group_windows):
            group = drawn[start : start + self._group_windows]
            window = torch.cat(group)
            by_length = window[torch.argsort(self._lengths[window], stable=True)]
            batches.extend(by_length.split([len(batch) for batch in group]))
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[place].tolist() for place in shuffled]


@dataclass(frozen=True)
class ChangingRows:
    """A stream whose rows are others from some step on.

    Attributes:
        rows: Encoded rows of each request, by its number.
        request_at_step: The request from a step on, by that step; the first is 0.
    """

    rows: Mapping[int, Sequence[EncodedExample]]
    request_at_step: Mapping[int, int]


class ChangingPlan:
    """Batches of `ChangingRows`: at each change the passes over a request's rows begin anew.

    Args:
        changing: The rows.
        batch_size: Most rows in a batch, over all ranks.
        seed: Seed of the permutations.
        group_windows: See `BatchPlan`.
    """

    def __init__(self, changing: ChangingRows, batch_size: int, seed: int, group_windows: int) -> None:
        self._plans = {
            request: BatchPlan(rows, batch_size, seed, group_windows) for request, rows in changing.rows.items()
        }
        self._request_at_step = changing.request_at_step
        # How long an epoch is must not change while it runs.
        self.batches_per_pass = max(plan.batches_per_pass for plan in self._plans.values())

    def request(self, number: int) -> int:
        """The request that batch `number` belongs to."""
        return self._request_at_step[self._begin(number)]

    def __getitem__(self, number: int) -> list[EncodedExample]:
        """Rows of batch `number`, shortest first."""
        return self._plans[self.request(number)][number - self._begin(number)]

    def _begin(self, number: int) -> int:
        return max(step for step in self._request_at_step if step <= number)


class StepLoader:
    """Yields the `Step`s of one epoch, which is one pass over the leading stream; the others carry on across epochs.

    Its only state is how many steps were given out, in all and before this epoch, and of how many rows, so that a run
    resumes in the middle of an epoch; of a streamed source, also how much of it was drawn. An epoch that is broken off
    (`limit_train_batches`) is followed by a whole one.

    Args:
        streams: Encoded rows of each stream, the leading one first, which is in memory.
        batch_size: Rows of each stream in an optimizer step, on this process.
        pad_token_id: Fills the padding.
        seed: Seed of the order.
        rank: This process's number.
        world_size: How many processes share each step's rows.
        group_windows: So many steps' rows are sorted by length together, see `BatchPlan`.
    """

    def __init__(
        self,
        streams: Mapping[str, Sequence[EncodedExample] | EncodedStream | ChangingRows],
        batch_size: int,
        pad_token_id: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        group_windows: int = LENGTH_GROUP_WINDOWS,
    ) -> None:
        self._pad_token_id = pad_token_id
        self._rank = rank
        self._world_size = world_size
        self._rows_per_step = size = batch_size * world_size
        self._plans: dict[str, BatchPlan | StreamedPlan | ChangingPlan] = {}
        for place, (name, rows) in enumerate(streams.items()):
            own_seed = seed + 7919 * place
            if isinstance(rows, EncodedStream):
                self._plans[name] = StreamedPlan(rows, size, own_seed, group_windows)
            elif isinstance(rows, ChangingRows):
                self._plans[name] = ChangingPlan(rows, size, own_seed, group_windows)
            else:
                self._plans[name] = BatchPlan(rows, size, own_seed, group_windows)
        leading = next(iter(self._plans.values()))
        assert not isinstance(leading, StreamedPlan)
        self._steps_per_epoch = leading.batches_per_pass
        self._steps_done = 0
        self._epoch_start = 0
        self._resumed = False

    def __len__(self) -> int:
        """Optimizer steps of an epoch."""
        return self._steps_per_epoch

    def __iter__(self) -> Iterator[Step]:
        """An epoch, or after a resume the rest of the interrupted one."""
        if not self._resumed or self._steps_done - self._epoch_start >= len(self):
            self._epoch_start = self._steps_done
        self._resumed = False
        for _ in range(self._epoch_start + len(self) - self._steps_done):
            step = self._step(self._steps_done)
            self._steps_done += 1
            yield step

    def _step(self, number: int) -> Step:
        batches = {}
        request = None
        for name, plan in self._plans.items():
            drawn = plan[number]
            if isinstance(plan, ChangingPlan):
                request = plan.request(number)
            # A rank for which a small batch has no row still takes part in every backward pass.
            own = drawn[self._rank :: self._world_size] or [drawn[0].without_labels()]
            batches[name] = collate(own, self._pad_token_id)
        return Step(batches, request)

    def state_dict(self) -> dict[str, Any]:
        """How many steps of how many rows were given out, in all and before this epoch, and where streams stand."""
        streamed = {name: plan.state_dict() for name, plan in self._plans.items() if isinstance(plan, StreamedPlan)}
        counts = {
            "steps_done": self._steps_done,
            "epoch_start": self._epoch_start,
            "rows_per_step": self._rows_per_step,
        }
        return counts | ({"streamed": streamed} if streamed else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the step that a checkpoint stands at.

        Raises:
            MisconfigurationError: Steps then had other rows, so that which of an epoch are left cannot be told.
        """
        if state["rows_per_step"] != self._rows_per_step:
            raise MisconfigurationError(
                f"the checkpoint stands after steps of {state['rows_per_step']} rows of each stream (batch_size times "
                f"processes), and a step now has {self._rows_per_step}; set batch_size so that they are as many, or "
                f"begin a new run"
            )
        self._steps_done = int(state["steps_done"])
        self._epoch_start = int(state["epoch_start"])
        for name, plan in self._plans.items():
            if isinstance(plan, StreamedPlan) and name in state.get("streamed", {}):
                plan.load_state_dict(state["streamed"][name])
        self._resumed = True
