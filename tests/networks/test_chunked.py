"""Label log-probabilities by a few rows at a time are those of torch, and can be differentiated twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from soul_lightning.networks import chunked
from soul_lightning.networks.chunked import chunked_log_probs

ROWS, VOCABULARY = 11, 7


@pytest.fixture(autouse=True)
def two_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "FEW_LOGITS", 0)
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", 2 * VOCABULARY)


def make_rows(dtype: torch.dtype, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with a gradient, targets, and the gradient that comes from above."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, VOCABULARY, generator=generator).mul(4).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (rows,), generator=generator)
    return logits, targets, torch.randn(rows, generator=generator)


def torch_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    wanted = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(wanted).log_softmax(dim=-1).gather(-1, targets[:, None])[:, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [0, 1, ROWS])
def test_values_and_gradients_are_those_of_torch(dtype: torch.dtype, rows: int) -> None:
    logits, targets, upstream = make_rows(dtype, rows)
    found, expected = chunked_log_probs(logits, targets), torch_log_probs(logits, targets)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, logits, upstream.to(found.dtype))
    (wanted,) = torch.autograd.grad(expected, logits, upstream.to(found.dtype))
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, wanted)


def test_second_derivatives() -> None:
    logits, targets, _ = make_rows(torch.float64)
    assert torch.autograd.gradcheck(chunked_log_probs, (logits, targets))
    assert torch.autograd.gradgradcheck(chunked_log_probs, (logits, targets))


def test_an_impossible_token_is_impossible() -> None:
    logits, targets, upstream = make_rows(torch.float32)
    with torch.no_grad():
        logits[torch.arange(0, ROWS, 2), (targets[::2] + 1) % VOCABULARY] = -torch.inf
        logits[1, targets[1]] = -torch.inf
    found = chunked_log_probs(logits, targets)
    assert found[1] == -torch.inf
    torch.testing.assert_close(found, torch_log_probs(logits, targets))
    (gradient,) = torch.autograd.grad(found[::2], logits, upstream[::2])
    assert bool(gradient.isfinite().all())


def test_few_logits_are_handled_whole_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets, upstream = make_rows(torch.float32)
    chunks = chunked_log_probs(logits, targets)
    monkeypatch.setattr(chunked, "FEW_LOGITS", logits.numel())
    whole = chunked_log_probs(logits, targets)
    assert type(whole.grad_fn) is not type(chunks.grad_fn)
    torch.testing.assert_close(whole, chunks)
    gradients = [torch.autograd.grad(each, logits, upstream)[0] for each in (whole, chunks)]
    torch.testing.assert_close(*gradients)


def test_no_other_matrix_of_their_size_is_kept_for_the_backward_pass() -> None:
    logits, targets, _ = make_rows(torch.float32)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        chunked_log_probs(logits, targets).sum()
    large = {tensor.data_ptr() for tensor in kept if tensor.numel() >= logits.numel()}
    assert large == {logits.data_ptr()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        functional.cross_entropy(logits, targets)
    assert {tensor.data_ptr() for tensor in kept if tensor.numel() >= logits.numel()} > large
