"""Rows that begin alike: what is shared is run once, and every number is that of a row run by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from soul_lightning.encoding import EncodedExample, collate, encode
from soul_lightning.metrics.token_statistics import TokenStatistics
from soul_lightning.protocols import Example
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scorer import Scorer
from soul_lightning.scoring.shared_prefixes import LEAST_SHARED_TOKENS, PrefixGroup, prefix_groups
from tests.scoring.test_generation import TEMPLATE, Uncached, recorded_batches, varied_network

PROMPTS = [
    "where does ada live and who plays the cello ?",
    "who is a baker in rome and is a pilot in oslo ?",
    "where does bela live and work and where does cora live ?",
]
ANSWERS = [
    ["ada lives in paris and plays the cello .", "ada lives in paris and plays the harp .", "ada lives in rome"],
    ["finn", "gerd and hana", "finn"],
    ["bela works in oslo", "bela works in oslo . and", "bela works"],
]
ROWS = [
    Example(answer, prompt) for prompt, answers in zip(PROMPTS, ANSWERS, strict=True) for answer in answers
]  # fmt: skip
ROWS += [
    Example("paris", "where does dina live and who is the tailor ?"),
    Example("the judge and the tailor of oslo ."),
]
ROWS = [Example(row.answer, row.prompt, 100 - number) for number, row in enumerate(ROWS)]
WHOLE = 10**6


def each_alone(network: nn.Module, tokenizer: PreTrainedTokenizerFast) -> list[TokenStatistics]:
    """The plain pass: every row in a batch of its own."""
    adapter = CausalLMAdapter(network, tokenizer)
    return [adapter.token_statistics(collate([row], 0))[0] for row in encode(ROWS, tokenizer, TEMPLATE)]


def assert_scores_are_plain(network: nn.Module, tokenizer: PreTrainedTokenizerFast, token_budget: int = 2048) -> None:
    scores = Scorer(CausalLMAdapter(network, tokenizer), token_budget)(ROWS, TEMPLATE)
    assert [score.index for score in scores] == [row.index for row in ROWS]
    for score, plain in zip(scores, each_alone(network, tokenizer), strict=True):
        assert torch.equal(score.statistics.hits, plain.hits)
        for name in ("log_probs", "means", "variances"):
            found = getattr(score.statistics, name)
            assert found.dtype == torch.float32 and found.device.type == "cpu" and not found.requires_grad
            torch.testing.assert_close(found, getattr(plain, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("token_budget", [1, 40, 60, 120, 2048])
@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_are_those_of_a_plain_pass(tokenizer: PreTrainedTokenizerFast, token_budget: int, seed: int) -> None:
    network = varied_network(tokenizer, seed).train()
    with recorded_batches(network) as sizes:
        assert_scores_are_plain(network, tokenizer, token_budget)
    passes = sizes[: -len(ROWS)]
    longest = max(map(len, encode(ROWS, tokenizer, TEMPLATE)))
    assert all(rows == 1 or rows * columns <= token_budget for rows, columns in passes)
    assert max(columns for _, columns in passes) <= longest
    assert network.training


def test_what_is_shared_is_run_once(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = encode(ROWS, tokenizer, TEMPLATE)
    groups = prefix_groups(rows, WHOLE)
    with recorded_batches(network := varied_network(tokenizer)) as sizes:
        Scorer(CausalLMAdapter(network, tokenizer))(ROWS, TEMPLATE)
    shared = [group for group in groups if group.tokens]
    assert sizes[1:] == [
        (len(shared), max(group.tokens for group in shared)),
        (sum(len(group.places) for group in shared), max(group.longest - group.tokens + 1 for group in shared)),
    ]
    assert sum(height * width for height, width in sizes) < 0.75 * sum(map(len, rows))


def adapted(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(varied_network(tokenizer), config)


def with_learned_positions(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.6)
    )


def with_grouped_heads(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    return varied_network(tokenizer, num_attention_heads=4, num_key_value_heads=2, attn_implementation="eager")


@pytest.mark.parametrize("build", [adapted, with_learned_positions, with_grouped_heads])
def test_architectures_that_keep_keys_and_values(
    tokenizer: PreTrainedTokenizerFast, build: Callable[[PreTrainedTokenizerFast], nn.Module]
) -> None:
    torch.manual_seed(0)
    network = build(tokenizer)
    with recorded_batches(network) as sizes:
        assert_scores_are_plain(network, tokenizer)
    assert len(sizes) == 3 + len(ROWS)


def with_a_sliding_window(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, sliding_window=7,
            num_attention_heads=2, num_key_value_heads=2, initializer_range=0.6,
        )
    )  # fmt: skip


def with_recurrent_states(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.6
    )
    return MambaForCausalLM(config)


def without_a_cache(tokenizer: PreTrainedTokenizerFast) -> nn.Module:
    return Uncached(varied_network(tokenizer))


@pytest.mark.parametrize(
    ("build", "tries"), [(with_a_sliding_window, 1), (with_recurrent_states, 0), (without_a_cache, 0)]
)
def test_other_networks_run_whole_rows(
    tokenizer: PreTrainedTokenizerFast, build: Callable[[PreTrainedTokenizerFast], nn.Module], tries: int
) -> None:
    torch.manual_seed(0)
    network = build(tokenizer)
    with recorded_batches(network) as sizes:
        assert_scores_are_plain(network, tokenizer, token_budget=70)
    whole = sizes[: -len(ROWS)]
    assert len(whole) > 3
    assert sum(rows for rows, _ in whole) == len(ROWS) + tries


def test_statistics_are_float32_under_autocast(tokenizer: PreTrainedTokenizerFast) -> None:
    adapter = CausalLMAdapter(varied_network(tokenizer), tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        scores = Scorer(adapter)(ROWS, TEMPLATE)
    exact = Scorer(adapter)(ROWS, TEMPLATE)
    assert all(score.statistics.log_probs.dtype == torch.float32 for score in scores)
    assert [score.mean_nll for score in scores] == pytest.approx([score.mean_nll for score in exact], rel=0.05)


def as_rows(texts: Sequence[tuple[int, Sequence[int]]]) -> list[EncodedExample]:
    """Rows of (prompt tokens, token ids)."""
    return [EncodedExample(torch.tensor(ids), prompt, number) for number, (prompt, ids) in enumerate(texts)]


def test_groups_are_rows_of_one_prompt() -> None:
    prompt, other = list(range(10)), list(range(1, 11))
    rows = as_rows(
        [
            (10, [*prompt, 20, 21, 22]),
            (10, [*other, 20]),
            (10, [*prompt, 20, 21, 23, 24]),
            (3, [1, 2, 3, 4]),
            (10, [*prompt, 20, 25]),
            (3, [1, 2, 3, 4, 5]),
        ]
    )
    assert prefix_groups(rows, WHOLE) == [
        PrefixGroup(11, [0, 2, 4], 14),
        PrefixGroup(0, [1], 11),
        PrefixGroup(0, [3], 4),
        PrefixGroup(0, [5], 5),
    ]


def test_a_prefix_leaves_every_row_a_label() -> None:
    rows = as_rows([(9, range(12)), (9, range(12)), (9, range(15))])
    assert prefix_groups(rows, WHOLE) == [PrefixGroup(11, [0, 1, 2], 15)]


def test_large_groups_are_cut() -> None:
    rows = as_rows([(9, [*range(9), number]) for number in range(5)])
    assert [list(group.places) for group in prefix_groups(rows, 25)] == [[0, 1], [2, 3], [4]]
    assert [group.tokens for group in prefix_groups(rows, 25)] == [9, 9, 0]
    assert [group.tokens for group in prefix_groups(rows, 9)] == [0] * 5


@st.composite
def drawn_rows(draw: st.DrawFn) -> list[EncodedExample]:
    """Rows of few prompts over two tokens, so that many begin alike."""
    prompts = draw(st.lists(st.lists(st.integers(0, 1), max_size=12), min_size=1, max_size=3))
    texts = []
    for prompt in draw(st.lists(st.sampled_from(prompts), max_size=8)):
        answer = draw(st.lists(st.integers(0, 1), min_size=1 if prompt else 2, max_size=5))
        texts.append((len(prompt), [*prompt, *answer]))
    return as_rows(texts)


@given(rows=drawn_rows(), most_tokens=st.integers(1, 60))
def test_every_row_is_in_one_group_and_begins_with_its_prefix(rows: list[EncodedExample], most_tokens: int) -> None:
    groups = prefix_groups(rows, most_tokens)
    assert sorted(place for group in groups for place in group.places) == list(range(len(rows)))
    for group in groups:
        first, lengths = rows[group.places[0]], [len(rows[place]) for place in group.places]
        assert group.longest == max(lengths)
        assert (group.tokens == 0) == (len(lengths) == 1)
        if group.tokens:
            assert LEAST_SHARED_TOKENS <= group.tokens < min(lengths) and first.prompt_tokens <= group.tokens
            assert len(lengths) * group.longest <= most_tokens
            for place in group.places:
                assert torch.equal(rows[place].input_ids[: group.tokens], first.input_ids[: group.tokens])
