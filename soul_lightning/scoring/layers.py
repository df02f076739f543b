"""Hidden states of every layer at a few positions of a batch, and batches for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from soul_lightning.encoding import EncodedExample
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.forward import at_positions, head_sees_only
from soul_lightning.protocols import Batch


def batches_by_length(rows: Sequence[EncodedExample], token_budget: int) -> Iterator[list[int]]:
    """Places of rows of like length, the longest first, so that memory runs out early.

    Args:
        rows: Encoded rows.
        token_budget: Most tokens in a batch, padding included; a longer row goes alone.
    """
    places = sorted(range(len(rows)), key=lambda place: (-len(rows[place]), place))
    while places:
        size = max(1, token_budget // len(rows[places[0]]))
        yield places[:size]
        places = places[size:]


def layer_states(network: nn.Module, batch: Batch, keep: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run `network` once, and keep what it holds at some positions.

    Args:
        network: A causal language model that gives its hidden states.
        batch: Rows, [batch, tokens].
        keep: [batch, tokens] boolean: the positions.

    Returns:
        Of the embeddings and behind each block, [kept, width] hidden states, the last ones behind the final norm in
        most architectures; and [kept, vocabulary] logits.

    Raises:
        MisconfigurationError: The network gives no hidden states.
    """
    with head_sees_only(network, keep):
        output = network(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, output_hidden_states=True
        )
    layers = getattr(output, "hidden_states", None)
    if layers is None:
        raise MisconfigurationError(
            f"hidden states are asked for, and {type(network).__name__} gives none; measure a Hugging Face model, or "
            f"leave out what reads its layers"
        )
    logits: Tensor = output.logits
    return [at_positions(layer, keep) for layer in layers], logits[keep] if logits.dim() == 3 else logits
