"""Networks that are no Hugging Face models: how they are asked for logits is the user's to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

LogitsFunction: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Of a network, `input_ids` [batch, tokens] and `attention_mask` [batch, tokens] (1 for a token, 0 for padding, which
stands on the right); returns logits [batch, tokens, vocabulary]: those at position t predict the token at t + 1."""


class LogitsNetwork(nn.Module):
    """Shows any network as a causal language model; answers are generated without a cache of keys and values.

    Args:
        network: The network; its weights are shared, not copied.
        forward: How it is asked.
    """

    def __init__(self, network: nn.Module, forward: LogitsFunction) -> None:
        super().__init__()
        self.network = network
        self.logits_function = forward

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False, **_: Any) -> CausalLMOutput:
        """The logits of the user's function, as Hugging Face models return them."""
        return CausalLMOutput(logits=self.logits_function(self.network, input_ids, attention_mask))
