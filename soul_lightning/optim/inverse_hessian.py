"""Inverse-Hessian-vector products: one Newton step over summed losses, without ever storing a Hessian.

Every vector here is flat, [coordinates]: the parameters' entries one after the other. All losses are *sums* over rows.
With mean losses over N_f forget and N_r retain rows the same update is (N_f / N_r) · (∇²L_r + (λ / N_r) I)⁻¹ ∇L_f.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.progress import counted, tracked

RowLoss = Callable[[], Tensor]
"""Computes the summed loss of some rows, a scalar with a graph; called anew for every derivative."""
SampledRowLoss = Callable[[int], Tensor]
"""The same with labels drawn from the model itself, as a function of the number of the draw."""


class LossSum:
    """A loss summed over rows, known by its derivatives, some rows at a time.

    Args:
        parts: The loss of each portion of the rows.
        parameters: What is differentiated by, in the order of the flat vectors.
        sampled_parts: The loss of sampled labels of each portion, for `gauss_newton_diagonal`.
        weight: The rows stand for so many times themselves, where a sample of all rows is read.
        mask: [coordinates] boolean; derivatives are taken in these coordinates only, the others are 0.
    """

    def __init__(
        self,
        parts: Sequence[RowLoss],
        parameters: Sequence[Tensor],
        sampled_parts: Sequence[SampledRowLoss] = (),
        weight: float = 1.0,
        mask: Tensor | None = None,
    ) -> None:
        self.parts = parts
        self._parameters = list(parameters)
        self._sampled_parts = sampled_parts
        self._weight = weight
        self._mask = mask

    def gradient(self) -> Tensor:
        """Σ ∇ℓ, [coordinates]."""
        total = self._zeros()
        for part in self.parts:
            total += self._flat(torch.autograd.grad(part(), self._parameters, allow_unused=True))
        return self._masked(total).mul_(self._weight)

    def product(self, vector: Tensor, part: int | None = None) -> Tensor:
        """Σ ∇²ℓ · vector by differentiating twice.

        Args:
            vector: [coordinates].
            part: Take this portion of the rows to stand for all of them.

        Returns:
            [coordinates].
        """
        inside = self._masked(vector.clone())
        directions = inside.split([parameter.numel() for parameter in self._parameters])
        chosen = self.parts if part is None else [self.parts[part]]
        total = self._zeros()
        for loss_of in chosen:
            total += self._second_derivative(loss_of(), directions)
        return self._masked(total).mul_(self._weight * len(self.parts) / max(1, len(chosen)))

    def _second_derivative(self, loss: Tensor, directions: Sequence[Tensor]) -> Tensor:
        gradients = torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True)
        pairs = zip(gradients, directions, strict=True)
        slopes = [(gradient.flatten() * direction).sum() for gradient, direction in pairs if gradient is not None]
        slope = torch.stack(slopes).sum() if slopes else loss.new_zeros(())
        if not slope.requires_grad:  # no part of the loss bends
            return self._zeros()
        return self._flat(torch.autograd.grad(slope, self._parameters, allow_unused=True))

    def gauss_newton_diagonal(self, draws: int) -> Tensor:
        """The Gauss-Newton diagonal of the sum by squared gradients of sampled labels (Gauss-Newton-Bartlett).

        Gradients of sampled labels have mean 0 and are independent, so that the square of their sum over some rows is
        in the mean the sum of their squares.

        Args:
            draws: The estimate is the mean over so many draws of all labels.

        Returns:
            [coordinates], ≥ 0.
        """
        total = self._zeros()
        for draw in range(draws):
            for part in self._sampled_parts:
                total += self._flat(torch.autograd.grad(part(draw), self._parameters, allow_unused=True)).square_()
        return self._masked(total).mul_(self._weight / draws)

    def _zeros(self) -> Tensor:
        first = self._parameters[0]
        return first.new_zeros(sum(parameter.numel() for parameter in self._parameters))

    def _flat(self, tensors: Sequence[Tensor | None]) -> Tensor:
        pairs = zip(tensors, self._parameters, strict=True)
        return torch.cat([torch.zeros_like(like).flatten() if t is None else t.detach().flatten() for t, like in pairs])

    def _masked(self, vector: Tensor) -> Tensor:
        return vector if self._mask is None else vector.mul_(self._mask)


@dataclass(frozen=True)
class Solution:
    """An approximate solution x of (H + λI) x = b.

    Attributes:
        vector: [coordinates] x.
        iterations: Passes of the solver; 1 for a direct one.
        residual: ‖b − (H + λI) x‖ / ‖b‖, where the solver knows it.
    """

    vector: Tensor
    iterations: int
    residual: float | None = None


class InverseHessian(ABC):
    """Solves (H + λI) x = b, H the Hessian of a `LossSum`."""

    @abstractmethod
    def solve(self, loss: LossSum, right_side: Tensor, damping: float) -> Solution:
        """Solve for x.

        Args:
            loss: Whose Hessian H is.
            right_side: [coordinates] b.
            damping: λ, in the units of the summed Hessian.
        """


class DiagonalGaussNewton(InverseHessian):
    """H by its Gauss-Newton diagonal: one pass a draw, never negative, blind to how coordinates act together.

    Args:
        draws: Draws of every label that the diagonal is averaged over.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    def __init__(self, draws: int = 1) -> None:
        if draws < 1:
            raise MisconfigurationError(f"DiagonalGaussNewton: draws must be >= 1, got {draws}")
        self.draws = draws

    def solve(self, loss: LossSum, right_side: Tensor, damping: float) -> Solution:
        """Divide; a coordinate that no row reaches moves only where its gradient does."""
        denominator = loss.gauss_newton_diagonal(self.draws) + damping
        # 0 / 0 without damping: nothing pulls at the coordinate, and it stays.
        vector = torch.where(right_side == 0, torch.zeros_like(right_side), right_side / denominator)
        return Solution(vector, iterations=1)


class ConjugateGradient(InverseHessian):
    """Conjugate gradients on damped Hessian-vector products (Hestenes and Stiefel 1952; Martens 2010).

    The Hessian of a network may bend downwards. Where a direction of negative curvature is met, the last iterate is
    returned with a warning.

    Args:
        iterations: At most so many products, each a pass over the rows at about three times a gradient's price.
        tolerance: Relative residual that ends the search.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    def __init__(self, iterations: int = 20, tolerance: float = 1e-3) -> None:
        if iterations < 1 or tolerance < 0:
            raise MisconfigurationError(
                f"ConjugateGradient: iterations must be >= 1 and tolerance >= 0, got {iterations} and {tolerance}"
            )
        self.iterations = iterations
        self.tolerance = tolerance

    def solve(self, loss: LossSum, right_side: Tensor, damping: float) -> Solution:
        """Search from 0."""
        x = torch.zeros_like(right_side)
        residual = right_side.clone()
        direction = right_side.clone()
        first = square = _dot(residual, residual)
        done = 0
        with counted("inverse Hessian", self.iterations, "steps") as advance:
            while done < self.iterations and square > self.tolerance**2 * first:
                product = loss.product(direction).add_(direction, alpha=damping)
                bend = _dot(direction, product)
                if not bend > 0:  # NaN too
                    warnings.warn(
                        f"ConjugateGradient met negative curvature after {done} iterations and stops there; "
                        f"raise damping (now {damping:g}) above the Hessian's most negative eigenvalue",
                        stacklevel=2,
                    )
                    break
                length = square / bend
                x.add_(direction, alpha=length)
                residual.add_(product, alpha=-length)
                before, square = square, _dot(residual, residual)
                direction.mul_(square / before).add_(residual)
                done += 1
                advance(1)
        return Solution(x, done, (square / first) ** 0.5 if first else 0.0)


class LiSSA(InverseHessian):
    """The Neumann series x ← x + (b − (H + λI) x) / scale (Agarwal et al. 2017, "LiSSA").

    It converges where every eigenvalue of H + λI lies between 0 and 2 · scale; about scale / λ steps reach the flattest
    directions.

    Args:
        depth: Terms of the series.
        scale: Above half of the largest eigenvalue of H + λI; estimated by power iteration if none is given.
        samples: Each step takes one portion of the rows, drawn at random, to stand for all of them, as in the paper:
            far cheaper, and noisy. Otherwise each step is a pass over all rows.
        seed: Seed of what is drawn.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    power_iterations = 10

    def __init__(self, depth: int = 100, scale: float | None = None, samples: bool = False, seed: int = 0) -> None:
        if depth < 1 or (scale is not None and scale <= 0):
            raise MisconfigurationError(f"LiSSA: depth must be >= 1 and scale above 0, got {depth} and {scale}")
        self.depth = depth
        self.scale = scale
        self.samples = samples
        self.seed = seed

    def solve(self, loss: LossSum, right_side: Tensor, damping: float) -> Solution:
        """Sum the series.

        Raises:
            TrainingDivergedError: The series diverges.
        """
        generator = torch.Generator().manual_seed(self.seed)
        scale = self.scale or largest_eigenvalue(loss, right_side, damping, self.power_iterations, generator)
        norm = _dot(right_side, right_side) ** 0.5
        x = torch.zeros_like(right_side)
        for step in tracked(range(1, self.depth + 1), "inverse Hessian", "steps"):
            part = int(torch.randint(len(loss.parts), (), generator=generator)) if self.samples else None
            residual = (right_side - loss.product(x, part)).sub_(x, alpha=damping)
            self._check(residual, norm, step, scale, damping, limit=DIVERGED)
            x.add_(residual, alpha=1 / scale)
        residual = (right_side - loss.product(x)).sub_(x, alpha=damping)
        left = self._check(residual, norm, self.depth, scale, damping, limit=1.0)
        return Solution(x, self.depth, left)

    @staticmethod
    def _check(residual: Tensor, norm: float, step: int, scale: float, damping: float, limit: float) -> float:
        """The relative residual, if it is not worse than `limit`; that of x = 0 is 1."""
        left = _dot(residual, residual) ** 0.5 / norm if norm else 0.0
        if not left <= limit * (1 + 1e-6):  # NaN too
            raise TrainingDivergedError(
                f"LiSSA diverges: the relative residual is {left:.3g} at step {step}; raise scale (now {scale:g}) "
                f"above half of the largest eigenvalue, or damping (now {damping:g}) above the most negative one"
            )
        return left


DIVERGED = 1e3
"""A relative residual above this, in the middle of a series, will not come down again."""


def largest_eigenvalue(
    loss: LossSum, like: Tensor, damping: float, iterations: int, generator: torch.Generator
) -> float:
    """The largest |eigenvalue| of H + λI by power iteration, from below.

    Args:
        loss: Whose Hessian H is.
        like: [coordinates] any vector of the right kind.
        damping: λ.
        iterations: Products taken.
        generator: Draws the first direction.
    """
    vector = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    norm = 1.0
    for _ in tracked(range(iterations), "largest eigenvalue", "products"):
        vector /= _dot(vector, vector) ** 0.5
        vector = loss.product(vector).add_(vector, alpha=damping)
        norm = _dot(vector, vector) ** 0.5
        if norm == 0:  # nothing bends
            return 1.0
    return norm


def influence_update(
    forget: LossSum, retain: LossSum, solver: InverseHessian, damping: float, assume_stationary: bool = True
) -> tuple[Solution, Tensor]:
    """The change that takes the forget rows' influence out of parameters c (Koh and Liang 2017, in sums).

    Where c is a stationary point of forget and retain losses together, Σ_r ∇ℓ = −Σ_f ∇ℓ, and the Newton step towards
    the retain rows' own minimum is (Σ_r ∇²ℓ + λI)⁻¹ Σ_f ∇ℓ. Otherwise it is −(Σ_r ∇²ℓ + λI)⁻¹ Σ_r ∇ℓ.

    Args:
        forget: Forget losses at c.
        retain: Retain losses at c.
        solver: How the inverse is applied.
        damping: λ.
        assume_stationary: Which of the two.

    Returns:
        The solution, whose vector is to be *added* to the parameters, and the right side b.
    """
    right_side = forget.gradient() if assume_stationary else retain.gradient().neg_()
    return solver.solve(retain, right_side, damping), right_side


def _dot(left: Tensor, right: Tensor) -> float:
    """In float64: float32 sums over millions of coordinates would cost conjugate gradients their conjugacy."""
    return float(torch.dot(left.double(), right.double()))
