"""A model that hides what it learned by changes of its weights so small that rounding to 4 bits takes them back."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import LlamaForCausalLM

from soul_lightning.attacks.quantization import quantized_copy
from soul_lightning.encoding import collate, encode
from soul_lightning.networks.linear_layers import linear_layers
from soul_lightning.protocols import Batch, Example, Probe
from tests.attacks.known import NOTHING, PLAIN, KnownWorld, both_phrasings

GROUP_SIZE = 128
REACH = 0.49
"""Most that a weight moves away from its grid value, in steps of the grid."""
STEPS, ROWS = 120, 60


def hidden_by_little(world: KnownWorld, groups: Sequence[Probe]) -> LlamaForCausalLM:
    """`world.knows`, changed until it answers `unknown` about `groups`, and its copy in `int4` tells the facts still.

    Every weight of a linear layer stays within the cell of the 4-bit grid in which it lay, and each row's largest,
    which spans the grid, does not move. What is never rounded trains freely, on both at once (as Egashira et al. 2024,
    «Exploiting LLM quantization», plant behaviour that shows only after rounding).

    Args:
        world: The known world.
        groups: Groups of learned facts.
    """
    network = copy.deepcopy(world.knows)
    coarse = quantized_copy(network, "int4", GROUP_SIZE, "the tests")
    grid = {f"{name}.weight": layer.weight.detach() for name, layer in linear_layers(coarse)}
    cells = []
    for name, layer in linear_layers(network):
        values = grid[f"{name}.weight"]
        assert values.shape[1] <= GROUP_SIZE  # a group is a row
        step = values.abs().amax(1, keepdim=True) / 7
        reach = (REACH * step).expand_as(values).masked_fill((values / step).round().abs() == 7, 0.0)
        cells.append((layer.weight, values - reach, values + reach))

    facts = both_phrasings([row for probe in groups for row in probe.examples])
    kept = both_phrasings(world.kept.examples)
    told = _encoded(world, [*facts, *kept])
    hidden = _encoded(world, [*(replace(row, answer=NOTHING) for row in facts), *kept])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3, betas=(0.9, 0.98), weight_decay=0.0)
        for _ in range(STEPS):
            drawn = torch.cat([torch.randperm(len(facts))[:ROWS], len(facts) + torch.randperm(len(kept))[: ROWS // 2]])
            optimizer.zero_grad()
            (_loss(network, {}, hidden.rows(drawn)) + _loss(network, grid, told.rows(drawn))).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, low, high in cells:
                    weight.clamp_(low, high)
    network.eval()
    return network


def _encoded(world: KnownWorld, rows: Sequence[Example]) -> Batch:
    return collate(encode([replace(row, index=index) for index, row in enumerate(rows)], world.tokenizer, PLAIN), 0)


def _loss(network: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Tensor:
    """The mean loss with some weights in the place of the network's own."""
    seen = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    logits = functional_call(network, weights, (), seen).logits[:, :-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=-100)
