"""Log-probabilities of labels without a second matrix of the size of the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_LOGITS = 1 << 18
"""Logits that are turned to float32 at a time: 1 MiB, which stays in a processor's cache (benchmarks/log_probs.py)."""
FEW_LOGITS = 1 << 22
"""Up to so many (16 MiB in float32) are handled whole: there is little to save, and calls would cost more than work."""


def chunked_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each row's target.

    `cross_entropy` keeps the log-softmax of all rows for its backward pass, and makes two more matrices there. Here a
    few rows at a time are turned to float32 and reduced; the backward pass makes the gradient of the logits, in their
    own precision, and nothing else of that size. It can be differentiated again, and then does keep a softmax.

    Args:
        logits: [rows, vocabulary], of any floating precision.
        targets: [rows] token ids.

    Returns:
        [rows] log softmax(logits)[target], in float32 at least.
    """
    if logits.numel() <= FEW_LOGITS:
        wanted = torch.promote_types(logits.dtype, torch.float32)
        return -functional.cross_entropy(logits.to(wanted), targets, reduction="none")
    apply: Callable[[Tensor, Tensor], Tensor] = _LogProbs.apply
    return apply(logits, targets[:, None])[:, 0]


class _LogProbs(torch.autograd.Function):
    """[rows, vocabulary] logits and [rows, 1] targets to [rows, 1] log-probabilities."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        # Written in place: small results kept between the chunks would leave holes in the heap that no chunk fits into.
        log_probs = logits.new_empty(targets.shape, dtype=torch.promote_types(logits.dtype, torch.float32))
        for part, target, into in _row_by_row(logits, targets, log_probs):
            into.copy_(part.log_softmax(dim=-1, dtype=into.dtype).gather(-1, target))
        return log_probs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, targets = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: no step in place
            spread = logits.softmax(dim=-1, dtype=grad.dtype) * -grad
            return spread.scatter_add(-1, targets, grad).to(logits.dtype), None
        gradient = torch.empty_like(logits)
        for into, part, target, upstream in _row_by_row(gradient, logits, targets, grad):
            spread = part.softmax(dim=-1, dtype=grad.dtype).mul_(-upstream)
            into.copy_(spread.scatter_add_(-1, target, upstream))
        return gradient, None


def _row_by_row(matrix: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Neighbouring rows of all, as many at a time as hold `CHUNK_LOGITS` entries of the first."""
    rows = max(1, CHUNK_LOGITS // matrix.shape[-1])
    return zip(*(tensor.split(rows) for tensor in (matrix, *others)), strict=True)
