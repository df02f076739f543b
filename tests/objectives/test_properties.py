"""The four properties that every objective must have (padding, split, nothing labelled, low precision)."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives import NPO, CrossEntropy, GradientAscent, KLDivergence, Objective
from soul_lightning.protocols import IGNORE_INDEX

OBJECTIVES: list[Objective] = [
    GradientAscent(),
    NPO(0.3, "sequence"),
    NPO(0.3, "token"),
    NPO(0.3, "batch"),
    CrossEntropy(),
    KLDivergence("forward"),
    KLDivergence("reverse"),
]
DIVISIBLE = [objective for objective in OBJECTIVES if objective.unit != "batches"]
NAMES = [f"{type(o).__name__}-{getattr(o, 'level', getattr(o, 'direction', ''))}" for o in OBJECTIVES]
SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 7), st.integers(2, 9), st.integers(0, 10_000))


def case(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, reference logits (float64) and labels with a random mask."""
    batch, tokens, vocabulary, seed = shape
    generator = torch.Generator().manual_seed(seed)
    logits, reference = (
        2 * torch.randn(2, batch, tokens, vocabulary, generator=generator, dtype=torch.float64)
    ).unbind()
    labels = torch.randint(vocabulary, (batch, tokens), generator=generator)
    labels[torch.rand(batch, tokens, generator=generator) < 0.4] = IGNORE_INDEX
    return logits, reference, labels


def gradient(objective: Objective, logits: Tensor, reference: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss and its gradient with respect to the logits."""
    logits = logits.clone().requires_grad_()
    c = Predictions.from_logits(reference, labels)
    loss = objective.summed(Predictions.from_logits(logits, labels), Reference(c.log_probs, c.logits))
    (result,) = torch.autograd.grad(loss, logits)
    return loss.detach(), result


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
@settings(deadline=None, max_examples=30)
@given(shape=SHAPES, left=st.integers(0, 3), right=st.integers(0, 3))
def test_padding_changes_nothing(objective: Objective, shape: tuple[int, int, int, int], left: int, right: int) -> None:
    logits, reference, labels = case(shape)
    if left:  # the first real token has nothing before it without padding, and must stay unlabelled with it
        labels[:, 0] = IGNORE_INDEX
    plain = gradient(objective, logits, reference, labels)
    pad = (0, 0, left, right)
    padded = gradient(
        objective,
        torch.nn.functional.pad(logits, pad, value=7.0),
        torch.nn.functional.pad(reference, pad, value=-3.0),
        torch.nn.functional.pad(labels, (left, right), value=IGNORE_INDEX),
    )
    torch.testing.assert_close(padded[0], plain[0])
    torch.testing.assert_close(padded[1][:, left : left + labels.shape[1]], plain[1])


@pytest.mark.parametrize("objective", DIVISIBLE, ids=lambda o: type(o).__name__)
@settings(deadline=None, max_examples=30)
@given(shape=SHAPES, cut=st.integers(1, 4))
def test_micro_batches_sum_to_the_batch(objective: Objective, shape: tuple[int, int, int, int], cut: int) -> None:
    logits, reference, labels = case(shape)
    whole = gradient(objective, logits, reference, labels)
    parts = [
        gradient(objective, *rows)
        for rows in zip(logits.split(cut), reference.split(cut), labels.split(cut), strict=True)
    ]
    torch.testing.assert_close(sum((loss for loss, _ in parts), torch.zeros((), dtype=torch.float64)), whole[0])
    torch.testing.assert_close(torch.cat([part for _, part in parts]), whole[1])
    pairs = zip(logits.split(cut), labels.split(cut), strict=True)
    counts = [objective.count(Predictions.from_logits(*pair)) for pair in pairs]
    assert sum(counts) == objective.count(Predictions.from_logits(logits, labels))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
def test_nothing_labelled_gives_zero_with_a_warning(objective: Objective) -> None:
    logits, reference, labels = case((3, 4, 5, 0))
    labels.fill_(IGNORE_INDEX)
    logits.requires_grad_()
    c = Predictions.from_logits(reference, labels)
    with pytest.warns(UserWarning, match="no token of the batch is labelled"):
        loss = objective(Predictions.from_logits(logits, labels), Reference(c.log_probs, c.logits))
    loss.backward()
    assert float(loss) == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_reduced_in_float32(objective: Objective, dtype: torch.dtype) -> None:
    logits, reference, labels = case((4, 40, 300, 1))
    low, low_reference = logits.to(dtype), reference.to(dtype)
    c = Predictions.from_logits(low_reference, labels)
    loss = objective.summed(Predictions.from_logits(low, labels), Reference(c.log_probs, c.logits))
    exact, _ = gradient(objective, low.double(), low_reference.double(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_kl_takes_a_token_that_cannot_be(direction: Literal["forward", "reverse"]) -> None:
    logits = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 2.0, -float("inf")]]]).flip(1).requires_grad_()
    labels = torch.tensor([[IGNORE_INDEX, 0]])
    reference = torch.tensor([[0.5, 0.1, -float("inf")]])
    predictions = Predictions.from_logits(logits, labels)
    loss = KLDivergence(direction)(predictions, Reference(torch.zeros(1), reference))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_npo_at_the_reference_is_two_log_two_over_beta() -> None:
    logits, _, labels = case((3, 6, 5, 2))
    predictions = Predictions.from_logits(logits, labels)
    at_reference = Reference(predictions.log_probs.clone())
    for objective in (NPO(0.5, "sequence"), NPO(0.5, "token"), NPO(0.5, "batch")):
        loss = objective(predictions, at_reference)
        assert float(loss) == pytest.approx(4 * float(torch.tensor(2.0).log()))


def test_npo_tends_to_gradient_ascent_for_a_small_beta() -> None:
    logits, reference, labels = case((1, 6, 5, 3))
    _, ascent = gradient(GradientAscent(), logits, reference, labels)
    _, npo = gradient(NPO(1e-8, "sequence"), logits, reference, labels)
    torch.testing.assert_close(npo, ascent, rtol=1e-6, atol=1e-9)


def test_npo_survives_a_label_far_below_what_float_can_hold() -> None:
    logits = torch.tensor([[[0.0, 0.0], [500.0, -500.0]]]).repeat(1, 2, 1)
    labels = torch.tensor([[IGNORE_INDEX, IGNORE_INDEX, 1, IGNORE_INDEX]])
    predictions = Predictions.from_logits(logits, labels)
    assert torch.isfinite(NPO(0.1)(predictions, Reference(torch.tensor([-1.0]))))
