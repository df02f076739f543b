"""Tiny causal language models of many kinds, for what must hold whatever the architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 48
LIKE_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def bloom() -> PreTrainedModel:
    """Positions in the attention bias; no position_ids."""
    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2))


def gemma2() -> PreTrainedModel:
    """Sliding and full attention in turns, logits capped."""
    return Gemma2ForCausalLM(Gemma2Config(**LIKE_LLAMA, head_dim=16, sliding_window=8))


def gpt2() -> PreTrainedModel:
    """Learned positions."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128))


def gpt_neox() -> PreTrainedModel:
    """Rotary positions on a part of each head."""
    settings = {key: value for key, value in LIKE_LLAMA.items() if key != "num_key_value_heads"}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**settings))


def llama() -> PreTrainedModel:
    """Rotary positions."""
    return LlamaForCausalLM(LlamaConfig(**LIKE_LLAMA))


def mamba() -> PreTrainedModel:
    """No attention: a state runs through everything that stands before."""
    return MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4))


def mistral() -> PreTrainedModel:
    """Sliding attention."""
    return MistralForCausalLM(MistralConfig(**LIKE_LLAMA, sliding_window=4))


def opt() -> PreTrainedModel:
    """Learned positions that are counted from the attention mask."""
    settings: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64}
    return OPTForCausalLM(OPTConfig(**settings, num_hidden_layers=2, num_attention_heads=2, dropout=0.0))


def phi3() -> PreTrainedModel:
    """Query, key and value in one matrix."""
    return Phi3ForCausalLM(Phi3Config(**LIKE_LLAMA))


def qwen3() -> PreTrainedModel:
    """Normed queries and keys."""
    return Qwen3ForCausalLM(Qwen3Config(**LIKE_LLAMA, head_dim=16))


ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    make.__name__: make for make in (bloom, gemma2, gpt2, gpt_neox, llama, mamba, mistral, opt, phi3, qwen3)
}


def seeded(name: str, attention: str | None = None) -> PreTrainedModel:
    """The model of this name, weights well away from 0 so that a leak between rows would show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ARCHITECTURES[name]()
        for parameter in network.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.2)
    if attention is not None:
        network.set_attn_implementation(attention)
    network.eval()
    return network
