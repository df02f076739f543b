"""Hidden states of every layer at a few positions of a batch, and batches for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from soul_lightning.encoding import EncodedExample
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.adapters import under_adapters
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


def blocks_of(network: nn.Module) -> nn.ModuleList:
    """The blocks of a Hugging Face model: a list of as many modules as its configuration has layers.

    Raises:
        MisconfigurationError: There is no such list.
    """
    config = getattr(under_adapters(network), "config", None)
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0) if config is not None else 0
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    blocks = next((each for each in lists if len(each) == layers > 0), None)
    if blocks is None:
        raise MisconfigurationError(
            f"the layers of {type(network).__name__} are asked for, and its blocks cannot be found; measure a Hugging "
            f"Face model, or leave out what reads its layers"
        )
    return blocks


def states_of(output: Any) -> Tensor:
    """Hidden states of a block's output: these alone in some architectures, the first of several things in others."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


def layer_states(network: nn.Module, batch: Batch, keep: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run `network` once, and keep what it holds at some positions.

    What a network itself returns as hidden states differs: the last ones may stand behind the final norm, and some
    leave out the embeddings. Here they are taken where they enter the first block, and where they leave each.

    Args:
        network: A Hugging Face causal language model.
        batch: Rows, [batch, tokens].
        keep: [batch, tokens] boolean: the positions.

    Returns:
        Of the embeddings and behind each block, [kept, width] hidden states; and [kept, vocabulary] logits.

    Raises:
        MisconfigurationError: See `blocks_of`.
    """
    blocks = blocks_of(network)
    found: list[Tensor] = []

    def enter(_block: nn.Module, args: tuple[Any, ...], settings: dict[str, Any]) -> None:
        found.append(at_positions(args[0] if args else settings["hidden_states"], keep))

    def leave(_block: nn.Module, _args: Any, output: Any) -> None:
        found.append(at_positions(states_of(output), keep))

    hooks = [blocks[0].register_forward_pre_hook(enter, with_kwargs=True)]
    hooks += [block.register_forward_hook(leave) for block in blocks]
    try:
        with head_sees_only(network, keep):
            output = network(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    logits: Tensor = output.logits
    return found, logits[keep] if logits.dim() == 3 else logits
