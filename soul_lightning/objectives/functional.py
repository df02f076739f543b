"""The pure maths of the objectives: tensors in, tensors out, one value per token or per sequence, nothing reduced.

β, γ and the notation follow the papers named at each objective. Everything is differentiable in its first argument.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def npo(log_ratio: Tensor, beta: float) -> Tensor:
    """Negative preference optimisation of a log-ratio.

    Args:
        log_ratio: Any shape; log p_θ(y) − log p_c(y) of a token, a sequence or a batch.
        beta: Inverse temperature β > 0; β → 0 is gradient ascent.

    Returns:
        (2/β) · −log σ(−β · log_ratio), the same shape. −log σ(−z) is softplus(z), which neither over- nor underflows.
    """
    return 2.0 / beta * functional.softplus(beta * log_ratio)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) of each row.

    Args:
        log_p: [..., vocabulary] log-probabilities of p.
        log_q: [..., vocabulary] log-probabilities of q.

    Returns:
        [...] Σ_v p_v (log p_v − log q_v), in nats; a vocabulary entry with p_v = 0 adds nothing.
    """
    p = log_p.exp()
    # Masked before the product: where the sum would leave a term out, its gradient would still be 0 · ∞ = NaN.
    return (p * (log_p - log_q).masked_fill(p == 0, 0.0)).sum(dim=-1)
