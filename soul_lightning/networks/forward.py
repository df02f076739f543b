"""One forward pass that computes logits at labelled positions only, through the root module's `forward`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.predictions import Predictions, predicting_positions
from soul_lightning.protocols import Batch


def label_predictions(network: nn.Module, batch: Batch, hidden_layer: int | None = None) -> Predictions:
    """Run `network` on `batch` and keep what is said at the labelled positions.

    The language-model head is the dearest layer of a small model, and most positions (prompt, padding) are read by no
    loss. A pre-hook on the output embeddings drops them before the head. It works for every architecture and
    through PEFT, FSDP2 and DDP, because the network is still called through its own `forward`.

    Args:
        network: A causal language model: `forward(input_ids, attention_mask, use_cache)` gives `.logits`.
        batch: Rows to score, [batch, tokens]; their alternatives run through the network too.
        hidden_layer: Keep the hidden states behind this many blocks (0: the embeddings).

    Raises:
        MisconfigurationError: The network has fewer layers, or gives no hidden states.
    """
    keep = predicting_positions(batch.labels)
    settings = {} if hidden_layer is None else {"output_hidden_states": True}
    with head_sees_only(network, keep):
        output = network(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, **settings)
    return Predictions.from_logits(
        output.logits,
        batch.labels,
        None if hidden_layer is None else hidden_states(getattr(output, "hidden_states", None), hidden_layer),
        {view: label_predictions(network, other, hidden_layer) for view, other in batch.alternatives.items()},
    )


def hidden_states(states: Sequence[Tensor] | None, layer: int) -> Tensor:
    """[batch, tokens, width] hidden states behind `layer` blocks, from those that a network gave."""
    if states is None:  # transformers records them for model classes that were built, not unpickled, in the process
        raise MisconfigurationError(
            f"hidden layer {layer} is asked for, and the network gives no hidden states; with a spawning strategy "
            f"start processes by strategy='ddp', or name the network in place of passing a model"
        )
    if layer >= len(states):
        raise MisconfigurationError(
            f"hidden layer {layer} is asked for, and the network has {len(states) - 1} blocks; "
            f"choose a layer from 0 (the embeddings) to {len(states) - 1}"
        )
    return states[layer]


def at_positions(values: Tensor, keep: Tensor) -> Tensor:
    """[kept, …] those of [batch, tokens, …] values that `keep` names, as in `head_sees_only`."""
    return values[keep] if keep.dtype == torch.bool else values.flatten(0, 1).index_select(0, keep)


@contextmanager
def head_sees_only(network: nn.Module, keep: Tensor) -> Iterator[None]:
    """Inside, the language-model head computes logits at the positions `keep` only.

    Args:
        network: A causal language model; one without a head of its own goes on computing all logits.
        keep: [batch, tokens] boolean, for logits in row order; or [kept] places among the flattened positions.
    """
    find_head = getattr(network, "get_output_embeddings", None)
    head = find_head() if callable(find_head) else None
    if not isinstance(head, nn.Module):  # no separate head: all logits are computed, and selected afterwards
        yield
        return

    def select(_head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (at_positions(args[0], keep), *args[1:])

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
