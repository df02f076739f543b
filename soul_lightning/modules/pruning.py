"""Magnitude pruning before unlearning: the smallest weights become 0 and stay 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.adapters import under_adapters
from soul_lightning.networks.linear_layers import linear_layers
from soul_lightning.sharding import here, reshard, split_like, whole


@dataclass(frozen=True)
class Pruning:
    """Which weights are pruned before the first step, as in Jia et al. 2023, "Model Sparsity Can Simplify Unlearning".

    Weight matrices of linear layers are; embeddings, the output head, biases and norms are not. The pruned model is the
    one that is unlearned, and the reference too.

    Attributes:
        fraction: Share of the weights that become 0, those of the smallest magnitude.
        scope: `layer`: this share of each matrix. `global`: of all of them together (the paper's), which can empty a
            layer whose weights are small, and needs memory for a copy of all.
    """

    fraction: float = 0.5
    scope: Literal["layer", "global"] = "layer"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.fraction < 1:
            raise MisconfigurationError(f"Pruning: fraction must lie in (0, 1), got {self.fraction}")
        if self.scope not in ("layer", "global"):
            raise MisconfigurationError(f"Pruning: scope must be layer or global, got {self.scope!r}")

    @torch.no_grad()
    def prune(self, network: nn.Module) -> dict[Tensor, Tensor]:
        """Set the smallest weights to 0; a second time changes nothing.

        Every process must call it, where weights are split.

        Args:
            network: A causal language model without adapters.

        Returns:
            What is left of each pruned matrix: true where a weight is not pruned, split as the matrix is.

        Raises:
            MisconfigurationError: Adapters would fill what is pruned, or there is no linear layer.
        """
        if under_adapters(network) is not network:
            raise MisconfigurationError(
                "pruning sets weights to 0, and adapters add to them; leave out network.lora, or pruning"
            )
        reshard(network)
        matrices: list[Tensor] = [layer.weight for _, layer in linear_layers(network)]
        if not matrices:
            raise MisconfigurationError(
                f"pruning finds no linear layer in a {type(network).__name__}; leave pruning out"
            )
        if self.scope == "global":
            cut = _magnitude(torch.cat([whole(matrix).abs().flatten() for matrix in matrices]), self.fraction)
        kept: dict[Tensor, Tensor] = {}
        for matrix in matrices:
            sizes = whole(matrix).abs()
            limit = cut if self.scope == "global" else _magnitude(sizes.flatten(), self.fraction)
            kept[matrix] = split_like(sizes > limit, matrix)
            here(matrix).mul_(here(kept[matrix]))
        pruned, total = sum(int((whole(own) == 0).sum()) for own in matrices), sum(own.numel() for own in matrices)
        rank_zero_info(f"pruning: {pruned:,} of {total:,} weights of {len(matrices)} linear layers are 0 and stay 0")
        return kept


def _magnitude(sizes: Tensor, fraction: float) -> Tensor:
    """The largest magnitude that is pruned: equal ones share their fate; below 0 where nothing is."""
    count = round(fraction * sizes.numel())
    return sizes.kthvalue(count).values if count else sizes.new_tensor(-1.0)
