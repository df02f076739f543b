from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch.nn.functional import cross_entropy

from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives import KLDivergence
from soul_lightning.protocols import IGNORE_INDEX


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_it_takes_a_token_that_cannot_be(direction: Literal["forward", "reverse"]) -> None:
    logits = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 2.0, -float("inf")]]]).flip(1).requires_grad_()
    labels = torch.tensor([[IGNORE_INDEX, 0]])
    reference = torch.tensor([[0.5, 0.1, -float("inf")]])
    predictions = Predictions.from_logits(logits, labels)
    loss = KLDivergence(direction)(predictions, Reference(torch.zeros(1), reference))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_it_is_distillation_from_the_reference() -> None:
    """Cross-entropy with the teacher's distribution has the same gradient and differs by the teacher's entropy."""
    torch.manual_seed(0)
    labels = torch.tensor([[IGNORE_INDEX, 1, 2, 0], [IGNORE_INDEX, IGNORE_INDEX, 3, IGNORE_INDEX]])
    logits = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 5, dtype=torch.float64)  # of the labelled positions, in row order
    loss = KLDivergence()(Predictions.from_logits(logits, labels), Reference(torch.zeros(4), teacher))
    (own,) = torch.autograd.grad(loss, [logits])
    target = teacher.softmax(dim=-1)
    student = torch.cat([logits[0, :3], logits[1, 1:2]])
    distilled = cross_entropy(student, target)
    (expected,) = torch.autograd.grad(distilled, [logits])
    torch.testing.assert_close(own, expected)
    entropy = -(target * target.log()).sum(dim=-1).mean()
    torch.testing.assert_close(loss, distilled - entropy)
    itself = Predictions.from_logits(logits, labels)
    assert abs(float(KLDivergence()(itself, Reference(torch.zeros(4), student.detach())))) < 1e-12
