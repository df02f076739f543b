from __future__ import annotations

import pytest
import torch

from soul_lightning import EmpiricalFisher, GaussNewtonBartlett
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions
from soul_lightning.optim.counter_random import counter_uniform
from soul_lightning.protocols import IGNORE_INDEX


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    index = torch.arange(400).repeat_interleave(250)
    place = torch.arange(250).repeat(400)
    draws = counter_uniform(5, index, place)
    assert 0 <= float(draws.min()) and float(draws.max()) < 1
    counts = torch.histc(draws, bins=20, min=0, max=1)
    # 100 000 draws, 5 000 a bin: a standard deviation is 69, so five of them are 345.
    assert float((counts - 5000).abs().max()) < 345
    grid = draws.view(400, 250)
    neighbours = torch.corrcoef(torch.stack([grid[:, :-1].flatten(), grid[:, 1:].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.02


def test_each_counter_and_the_seed_matter() -> None:
    one = torch.tensor([1])
    base = counter_uniform(0, one, one)
    assert torch.equal(base, counter_uniform(0, one, one))
    others = [counter_uniform(1, one, one), counter_uniform(0, one + 1, one), counter_uniform(0, one, one + 1)]
    assert all(not torch.equal(base, other) for other in others)


def test_labels_follow_the_softmax() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    rows = 40_000
    logits = probabilities.log().expand(rows, 4)
    index = torch.arange(rows)
    labels = GaussNewtonBartlett().sample(logits, index, torch.zeros_like(index), step=3)
    shares = torch.bincount(labels, minlength=4) / rows
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=0.012)


def test_sampled_labels_ignore_padding_order_and_splits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 9, generator=generator)
    labels = torch.randint(9, (3, 6), generator=generator)
    labels[0, :3] = IGNORE_INDEX
    index = torch.tensor([11, 5, 7])
    estimator = GaussNewtonBartlett(seed=2)
    whole = estimator.surrogate(Predictions.from_logits(logits, labels), index, 4)
    padded_logits = torch.nn.functional.pad(logits, (0, 0, 2, 1))
    # The first position of a row is never predicted; padded on the left it must stay so.
    padded_labels = torch.nn.functional.pad(
        torch.cat([torch.full((3, 1), IGNORE_INDEX), labels[:, 1:]], 1), (2, 1), value=IGNORE_INDEX
    )
    padded = estimator.surrogate(Predictions.from_logits(padded_logits, padded_labels), index, 4)
    torch.testing.assert_close(padded, whole)
    parts = [
        estimator.surrogate(Predictions.from_logits(logits[[row]], labels[[row]]), index[[row]], 4) for row in (2, 0, 1)
    ]
    torch.testing.assert_close(sum(parts, torch.zeros(())), whole)
    assert not torch.allclose(estimator.surrogate(Predictions.from_logits(logits, labels), index, 5), whole)


def test_sources() -> None:
    assert GaussNewtonBartlett(source="both").streams == ("forget", "retain")
    assert GaussNewtonBartlett(source="clean").streams == ("clean",)


def test_settings_out_of_range() -> None:
    with pytest.raises(MisconfigurationError, match="interval_steps counts optimizer steps and must be >= 1, got 0"):
        GaussNewtonBartlett(interval_steps=0)
    with pytest.raises(MisconfigurationError, match="one of retain, forget, both, clean, full, got 'all'"):
        GaussNewtonBartlett(source="all")  # type: ignore[arg-type]


def test_the_mean_over_draws_is_the_gauss_newton_diagonal_of_a_network() -> None:
    """Jᵀ (diag p − p pᵀ) J, averaged over tokens: every coordinate within 5 standard errors, L1 within 5 %."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(6, 3, generator=generator)
    sizes = ((3, 4), (4,), (4, 5), (5,))
    weights = [torch.randn(size, generator=generator).requires_grad_() for size in sizes]

    def logits(*values: torch.Tensor) -> torch.Tensor:
        first, bias, second, offset = values
        return torch.tanh(inputs @ first + bias) @ second + offset

    jacobian = torch.cat(
        [part.flatten(2) for part in torch.autograd.functional.jacobian(logits, tuple(weights))], dim=2
    )
    p = logits(*weights).detach().softmax(dim=-1)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    exact = torch.einsum("tvi,tvw,twi->i", jacobian, middle, jacobian) / len(inputs)

    estimator, draws = GaussNewtonBartlett(), 4000
    drawn = []
    labels = torch.tensor([[0, *range(5), 0]])
    for step in range(draws):
        scores = torch.nn.functional.pad(logits(*weights), (0, 0, 0, 1))[None]
        predictions = Predictions.from_logits(scores, labels)
        surrogate = estimator.surrogate(predictions, torch.tensor([0]), step) / len(inputs)
        gradients = torch.autograd.grad(surrogate, weights)
        estimate = estimator.estimate(len(inputs), step)
        drawn.append(torch.cat([estimate(number, part).flatten() for number, part in enumerate(gradients)]))
    samples = torch.stack(drawn)
    error = samples.std(dim=0) / draws**0.5
    difference = (samples.mean(dim=0) - exact).abs()
    assert float(difference.sum() / exact.sum()) <= 0.05
    assert bool((difference <= 5 * error).all())


def test_rows_are_sampled_by_their_index() -> None:
    estimator = GaussNewtonBartlett(fraction=0.3)
    index = torch.arange(4000)
    chosen = estimator.is_sampled(index, step=3)
    assert abs(float(chosen.float().mean()) - 0.3) < 5 * (0.3 * 0.7 / 4000) ** 0.5
    assert torch.equal(chosen[1000:1010], estimator.is_sampled(index[1000:1010], step=3))
    assert not torch.equal(chosen, estimator.is_sampled(index, step=4))


def test_the_empirical_fisher_squares_the_real_gradient() -> None:
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    predictions = Predictions.from_logits(logits, torch.tensor([[0, 2, 1]]))
    surrogate = EmpiricalFisher().surrogate(predictions, torch.tensor([0]), 0)
    (gradient,) = torch.autograd.grad(surrogate / 2, logits)
    p = logits[0, :2].detach().softmax(dim=-1)
    expected = ((p - torch.nn.functional.one_hot(torch.tensor([2, 1]), 4)) / 2) ** 2 * 2
    torch.testing.assert_close(EmpiricalFisher().estimate(2, 0)(0, gradient)[0, :2], expected)
