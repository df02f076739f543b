"""Batched generation equals asking for one row at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example
from soul_lightning.scoring.generation import generated_answers
from soul_lightning.scoring.prompts import encode_prompts
from soul_lightning.templates import PromptTemplate

TEMPLATE = PromptTemplate(prompt="Question : {prompt} Answer :")
CONTEXT = "Question : where does cora live ? Answer : oslo . "
OTHER = "Question : who plays the harp ? Answer : dina and egon . "
ROWS = [
    Example("", "where does ada live ?", 0, context=CONTEXT),
    Example("", "who ?", 1, context=CONTEXT),
    Example("", "where does bela live and work and who plays the cello ?", 2, context=CONTEXT),
    Example("", "who plays the flute ?", 3, context=OTHER),
    Example("", "who plays ?", 4, context=OTHER),
    Example("", "who is finn ?", 5),
    Example("", "where does gerd work ?", 6),
    Example("", "does hana live ?", 7, context="the judge and the pilot . "),
    Example("", "is a baker in rome ?", 8, context=OTHER),
]


def varied_network(tokenizer: PreTrainedTokenizerFast, seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    """A Llama with a head of its own and large random weights, so that its answers vary and end at various lengths."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes["max_position_embeddings"] = 128
    config = LlamaConfig(
        vocab_size=len(tokenizer), initializer_range=0.6, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **(sizes | settings),
    )  # fmt: skip
    return LlamaForCausalLM(config)


def one_by_one(
    network: Any, tokenizer: PreTrainedTokenizerFast, examples: list[Example], max_new_tokens: int, **settings: Any
) -> list[str]:
    """The plain oracle: `network.generate` on the joined tokens of each row."""
    answers = []
    network.eval()
    for prompt in encode_prompts(examples, tokenizer, TEMPLATE):
        ids = torch.tensor([prompt.whole().rest])
        output = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=0,
            eos_token_id=2,
            **settings,
        )
        answers.append(str(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)).strip())
    return answers


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_one_row_at_a_time(tokenizer: PreTrainedTokenizerFast, batch_size: int, seed: int) -> None:
    network = varied_network(tokenizer, seed)
    found = generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=12, batch_size=batch_size)
    assert found == one_by_one(network, tokenizer, ROWS, 12)
    assert len(set(found)) > 3


def test_rows_that_are_done_leave_the_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer)
    with torch.no_grad():
        network.lm_head.weight[2] *= 3  # the end of text is often likely
    expected = one_by_one(network, tokenizer, ROWS, 24)
    assert len({len(answer.split()) for answer in expected}) > 2
    with recorded_batches(network) as sizes:
        assert generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=24) == expected
    tokens = sum(rows * columns for rows, columns in sizes if columns == 1)
    assert tokens <= sum(len(answer.split()) + 1 for answer in expected)


def test_a_shared_context_is_run_once(tokenizer: PreTrainedTokenizerFast, tiny_network: LlamaForCausalLM) -> None:
    with recorded_batches(tiny_network) as sizes:
        generated_answers(tiny_network, tokenizer, ROWS[:3], TEMPLATE, max_new_tokens=1, batch_size=2)
    context_tokens = 1 + len(CONTEXT.split())
    assert sizes[0] == (1, context_tokens)
    assert [rows for rows, _ in sizes[1:]] == [2, 1]
    assert all(columns < context_tokens + 4 for _, columns in sizes[2:])


@contextmanager
def recorded_batches(network: nn.Module) -> Iterator[list[tuple[int, int]]]:
    """[rows, columns] of every forward pass."""
    sizes: list[tuple[int, int]] = []

    def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sizes.append(tuple(kwargs["input_ids"].shape))

    hook = network.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield sizes
    finally:
        hook.remove()


def test_equals_one_row_at_a_time_with_adapters(tokenizer: PreTrainedTokenizerFast) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    network = get_peft_model(varied_network(tokenizer), config)
    expected = one_by_one(network, tokenizer, ROWS, 8)
    assert generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=8) == expected
    with network.disable_adapter():
        assert generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=8) != expected


def test_equals_one_row_at_a_time_with_learned_positions(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=2,
        initializer_range=0.6, tie_word_embeddings=False,
    )  # fmt: skip
    network = GPT2LMHeadModel(config)
    assert generated_answers(network, tokenizer, ROWS, TEMPLATE) == one_by_one(network, tokenizer, ROWS, 16)


def test_equals_one_row_at_a_time_with_a_sliding_window(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=7, initializer_range=0.6, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    network = MistralForCausalLM(config)
    assert generated_answers(network, tokenizer, ROWS, TEMPLATE) == one_by_one(network, tokenizer, ROWS, 16)


def test_recurrent_networks_compute_the_whole_text(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=4, eos_token_id=2,
        initializer_range=0.6, tie_word_embeddings=False,
    )  # fmt: skip
    network = MambaForCausalLM(config)
    assert generated_answers(network, tokenizer, ROWS, TEMPLATE) == one_by_one(network, tokenizer, ROWS, 16)


class Uncached(nn.Module):
    """The least that a causal language model is: no cache, no explicit positions, no head of its own."""

    def __init__(self, network: LlamaForCausalLM) -> None:
        super().__init__()
        self.inner = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool = False) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)


def test_networks_without_a_cache_give_the_same_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer)
    expected = generated_answers(network, tokenizer, ROWS, TEMPLATE)
    assert generated_answers(Uncached(network), tokenizer, ROWS, TEMPLATE) == expected


def test_runs_under_bf16_autocast(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        found = generated_answers(network, tokenizer, ROWS, TEMPLATE, batch_size=4)
    expected = generated_answers(network, tokenizer, ROWS, TEMPLATE)
    first = [(one.split() or [""])[0] == (other.split() or [""])[0] for one, other in zip(found, expected, strict=True)]
    assert sum(first) >= len(first) - 2


def test_an_answer_ends_at_the_stop_text(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer)
    free = generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=12, stop=None)
    word = max(set(" ".join(free).split()), key=" ".join(free).count)
    cut = generated_answers(network, tokenizer, ROWS, TEMPLATE, max_new_tokens=12, stop=word)
    assert cut == [answer.split(word)[0].strip() for answer in free]
    assert cut != free


def test_a_chat_prompt_is_rendered_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer)
    tokenizer.chat_template = "<bos> Question : {{ messages[0]['content'] }} Answer :"
    try:
        prompts = encode_prompts(ROWS[:2], tokenizer, PromptTemplate(chat=True))
        answers = generated_answers(network, tokenizer, ROWS[:2], PromptTemplate(chat=True))
    finally:
        tokenizer.chat_template = None
    text = f"Question : {CONTEXT}{ROWS[0].prompt} Answer :"
    assert tokenizer.decode(list(prompts[0].whole().rest)) == f"<bos> {' '.join(text.split())}"
    assert [prompt.prefix for prompt in prompts] == [(), ()]
    assert all(isinstance(answer, str) for answer in answers)


def test_modes_are_restored(tokenizer: PreTrainedTokenizerFast, tiny_network: LlamaForCausalLM) -> None:
    tiny_network.train()
    tiny_network.model.layers[0].eval()
    generated_answers(tiny_network, tokenizer, ROWS[:1], TEMPLATE, max_new_tokens=1)
    assert tiny_network.training and not tiny_network.model.layers[0].training


def test_nothing_to_answer(tokenizer: PreTrainedTokenizerFast, tiny_network: LlamaForCausalLM) -> None:
    assert generated_answers(tiny_network, tokenizer, [], TEMPLATE) == []


def test_errors_say_what_to_change(tokenizer: PreTrainedTokenizerFast, tiny_network: LlamaForCausalLM) -> None:
    with pytest.raises(MisconfigurationError, match="max_new_tokens and batch_size"):
        generated_answers(tiny_network, tokenizer, ROWS, TEMPLATE, max_new_tokens=0)
    longest = [Example("", "who " * 130)]
    with pytest.raises(MisconfigurationError, match="no room for an answer within the 128 positions"):
        generated_answers(tiny_network, tokenizer, longest, TEMPLATE)


def test_answers_end_where_the_positions_end(tokenizer: PreTrainedTokenizerFast) -> None:
    network = varied_network(tokenizer, max_position_embeddings=40)
    network.generation_config.eos_token_id = None
    rows = [Example("", "who " * words, words) for words in (5, 20)]
    longest = max(len(prompt) for prompt in encode_prompts(rows, tokenizer, TEMPLATE))
    with recorded_batches(network) as sizes:
        generated_answers(network, tokenizer, rows, TEMPLATE, max_new_tokens=64, batch_size=1)
    assert max(columns for _, columns in sizes) == longest
    assert len([1 for _, columns in sizes if columns == 1]) <= 2 * (40 - longest - 1)
