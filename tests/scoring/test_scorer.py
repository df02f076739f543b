"""The scoring pass: exact values, length-sorted batches, without a trace."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.token_statistics import TokenStatistics
from soul_lightning.protocols import Example
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.evaluation import isolated_evaluation
from soul_lightning.scoring.scorer import ExampleScore, Scorer
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples

ROWS = as_examples(FORGET + RETAIN)


def test_statistics_of_one_row() -> None:
    log_probs = torch.tensor([0.5, 0.25]).log()
    score = ExampleScore(3, TokenStatistics(log_probs, torch.tensor([True, False]), log_probs, log_probs))
    assert score.tokens == 2
    assert score.nll == pytest.approx(math.log(8))
    assert score.mean_nll == pytest.approx(math.log(8) / 2)
    assert score.probability == pytest.approx(math.sqrt(1 / 8))


@pytest.mark.parametrize("token_budget", [1, 30, 2048])
def test_equals_a_plain_pass_over_each_row(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, token_budget: int
) -> None:
    tiny_network.train()
    scores = Scorer(CausalLMAdapter(tiny_network, tokenizer), token_budget)(ROWS, PLAIN)
    assert tiny_network.training
    assert [score.index for score in scores] == [row.index for row in ROWS]
    tiny_network.eval()
    for score, row in zip(scores, encode(ROWS, tokenizer, PLAIN), strict=True):
        with torch.no_grad():
            logits = tiny_network(input_ids=row.input_ids[None]).logits[0]
        picked = logits.log_softmax(-1)[torch.arange(len(row) - 1), row.input_ids[1:]]
        assert torch.allclose(score.statistics.log_probs, picked[row.prompt_tokens - 1 :], atol=1e-5)
        assert score.statistics.log_probs.dtype == torch.float32 and not score.statistics.log_probs.requires_grad


def test_batches_hold_the_budget(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    sizes: list[int] = []

    def record(module: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        sizes.append(kwargs["input_ids"].numel())

    hook = tiny_network.register_forward_pre_hook(record, with_kwargs=True)
    Scorer(CausalLMAdapter(tiny_network, tokenizer), token_budget=30)(ROWS, PLAIN)
    hook.remove()
    assert len(sizes) > 2 and max(sizes) <= 30


def test_statistics_are_float32_under_autocast(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    adapter = CausalLMAdapter(tiny_network, tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        scores = Scorer(adapter)(ROWS, PLAIN)
    exact = Scorer(adapter)(ROWS, PLAIN)
    assert all(score.statistics.log_probs.dtype == torch.float32 for score in scores)
    assert [score.nll for score in scores] == pytest.approx([score.nll for score in exact], rel=0.02)


def test_rows_without_a_label_are_left_out(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [Example("ada " * 3, "who is", 0), Example("bela", "who is " * 20, 1)]
    scores = Scorer(CausalLMAdapter(tiny_network, tokenizer), max_tokens=8)(rows, PLAIN)
    assert [score.index for score in scores] == [0]
    batch = collate(encode(rows, tokenizer, PLAIN), 0)
    batch.labels[0] = -100
    statistics = CausalLMAdapter(tiny_network, tokenizer).token_statistics(batch)
    assert {place: len(row) for place, row in statistics.items()} == {1: 2}


def test_evaluation_leaves_no_trace(tiny_network: LlamaForCausalLM) -> None:
    tiny_network.train()
    tiny_network.model.norm.eval()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = (torch.rand(1).item(), np.random.rand(), random.random())
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    with isolated_evaluation(tiny_network):
        assert not tiny_network.training and not torch.is_grad_enabled()
        torch.rand(5), np.random.rand(5), random.random()
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert tiny_network.training and not tiny_network.model.norm.training and torch.is_grad_enabled()


def test_budgets_that_hold_nothing_are_refused(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(MisconfigurationError, match="token_budget"):
        Scorer(CausalLMAdapter(tiny_network, tokenizer), token_budget=0)
