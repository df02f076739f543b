"""What a causal language model says at the labelled positions of a batch: the one place where labels are shifted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from soul_lightning.networks.chunked import chunked_log_probs
from soul_lightning.protocols import IGNORE_INDEX


def full_precision(values: Tensor) -> Tensor:
    """`values` in float32 where they are lower, untouched where they are float32 or float64."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def predicting_positions(labels: Tensor) -> Tensor:
    """Where the hidden state predicts a labelled token.

    Args:
        labels: [batch, tokens] unshifted labels.

    Returns:
        [batch, tokens] boolean: true at t when the token at t + 1 is labelled (never at the last position).
    """
    labelled = labels != IGNORE_INDEX
    return torch.cat([labelled[:, 1:], torch.zeros_like(labelled[:, :1])], dim=1)


@dataclass
class Reference:
    """What the reference model c (the model before unlearning) says at the same positions.

    Attributes:
        log_probs: [labelled] log-probability of each label, float32.
        logits: [labelled, vocabulary] where the objective needs the whole distribution.
        hidden: [labelled, width] hidden states of one layer, where the objective needs them.
        alternatives: The same of the other texts that the objective reads, by `View`.
    """

    log_probs: Tensor
    logits: Tensor | None = None
    hidden: Tensor | None = None
    alternatives: Mapping[str, Reference] = field(default_factory=dict)


@dataclass
class Predictions:
    """Logits and targets at the labelled positions of a batch, flattened in row order.

    Attributes:
        logits: [labelled, vocabulary] in the precision of the forward pass.
        targets: [labelled] the label that each row of logits predicts.
        rows: [labelled] the sequence that each position belongs to, ascending.
        batch_size: Sequences in the batch, those without a label included.
        hidden: [labelled, width] hidden states of one layer, where the objective asks for them.
        alternatives: Predictions for the other texts of the same rows that the objective reads, by `View`.
    """

    logits: Tensor
    targets: Tensor
    rows: Tensor
    batch_size: int
    hidden: Tensor | None = None
    alternatives: Mapping[str, Predictions] = field(default_factory=dict)

    @classmethod
    def from_logits(
        cls,
        logits: Tensor,
        labels: Tensor,
        hidden: Tensor | None = None,
        alternatives: Mapping[str, Predictions] | None = None,
    ) -> Predictions:
        """Select the labelled positions of a full forward pass.

        Args:
            logits: [batch, tokens, vocabulary], or [labelled, vocabulary] when they were selected already.
            labels: [batch, tokens] unshifted labels.
            hidden: [batch, tokens, width] hidden states of one layer.
            alternatives: Predictions for other texts of the same rows.
        """
        keep = predicting_positions(labels)
        return cls(
            logits=logits[keep] if logits.dim() == 3 else logits,
            targets=labels[:, 1:][keep[:, :-1]],
            rows=keep.nonzero()[:, 0],
            batch_size=labels.shape[0],
            hidden=hidden[keep] if hidden is not None else None,
            alternatives=alternatives or {},
        )

    @cached_property
    def log_probs(self) -> Tensor:
        """[labelled] log-probability of each target; the softmax runs in float32 at least."""
        return chunked_log_probs(self.logits, self.targets)

    @cached_property
    def log_distribution(self) -> Tensor:
        """[labelled, vocabulary] log-probabilities; in float32 at least."""
        return full_precision(self.logits).log_softmax(dim=-1)

    @cached_property
    def tokens_per_row(self) -> Tensor:
        """[batch] labelled tokens of each sequence."""
        return torch.bincount(self.rows, minlength=self.batch_size)

    @cached_property
    def ordinals(self) -> Tensor:
        """[labelled] the place of each labelled token among those of its sequence, from 0; padding does not count."""
        starts = self.tokens_per_row.cumsum(0) - self.tokens_per_row
        return torch.arange(len(self.rows), device=self.rows.device) - starts[self.rows]

    @property
    def labelled_tokens(self) -> int:
        """How many positions there are."""
        return len(self.targets)

    @property
    def labelled_sequences(self) -> int:
        """How many sequences have at least one labelled token."""
        return int((self.tokens_per_row > 0).sum())

    def row_sums(self, values: Tensor) -> Tensor:
        """Sum [labelled] values over each sequence that has a label.

        Returns:
            [labelled sequences] sums, in row order.
        """
        sums = values.new_zeros(self.batch_size).index_add(0, self.rows, values)
        return sums[self.tokens_per_row > 0]

    def row_means(self, values: Tensor) -> Tensor:
        """Mean of [labelled] values over each sequence that has a label: [labelled sequences]."""
        return self.row_sums(values) / self.tokens_per_row[self.tokens_per_row > 0]
