"""Gradient norms equal those of plain backward passes, and leave the network as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.encoding import encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.gradient_norms import gradient_norms
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network

ROWS = [
    Example("paris", "ada lives in", 4),
    Example("rome and oslo", "bela lives in", 2),
    Example("the baker plays the harp", "", 7),
    Example("cello", "does dina play the flute ?", 0, context="who plays ? dina . "),
]
PROBE = Probe("forget", "question", ROWS, "forget", PLAIN)


def plain_norms(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, probe: Probe) -> dict[int, float]:
    """One ordinary backward pass a row."""
    norms = {}
    network.eval()
    for row in encode(probe.examples, tokenizer, probe.template):
        network.zero_grad()
        first = max(1, row.prompt_tokens)
        logits = network(input_ids=row.input_ids[None]).logits[0, first - 1 : -1]
        functional.cross_entropy(logits, row.input_ids[first:]).backward()
        squares = [each.grad.double().square().sum() for each in network.parameters() if each.grad is not None]
        norms[row.index] = float(torch.stack(squares).sum().sqrt())
    network.zero_grad()
    return norms


def test_equal_plain_backward_passes(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    found = gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    assert list(found) == [4, 2, 7, 0]
    assert found == pytest.approx(plain_norms(tiny_network, tokenizer, PROBE), rel=1e-5)
    assert len(set(found.values())) == 4


def test_double_precision_is_kept(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_network.double()
    found = gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    assert found == pytest.approx(plain_norms(tiny_network, tokenizer, PROBE), rel=1e-12)


def test_dropout_is_off(tokenizer: PreTrainedTokenizerFast) -> None:
    network = make_network(len(tokenizer), dropout=0.5).train()
    network.model.norm.eval()
    found = gradient_norms(CausalLMAdapter(network, tokenizer), PROBE)
    assert network.training and network.model.layers[0].training and not network.model.norm.training
    assert found == pytest.approx(plain_norms(network, tokenizer, PROBE), rel=1e-5)


def test_only_the_weights_that_train_count(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    whole = gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    tiny_network.requires_grad_(False)
    tiny_network.model.layers[1].requires_grad_(True)
    tiny_network.unused = nn.Linear(2, 2)
    found = gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    assert found == pytest.approx(plain_norms(tiny_network, tokenizer, PROBE), rel=1e-5)
    assert all(0 < found[index] < whole[index] for index in found)


def test_gradients_and_what_trains_stay_as_they_were(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    tiny_network.model.layers[0].requires_grad_(False)
    kept = torch.full_like(tiny_network.model.norm.weight, 3.0)
    tiny_network.model.norm.weight.grad = kept
    trained = {name: each.requires_grad for name, each in tiny_network.named_parameters()}
    gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    assert {name: each.requires_grad for name, each in tiny_network.named_parameters()} == trained
    left = {name for name, each in tiny_network.named_parameters() if each.grad is not None}
    assert left == {"model.norm.weight"}
    assert tiny_network.model.norm.weight.grad is kept and bool((kept == 3).all())


def test_in_a_frozen_network_all_weights_count(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    tiny_network.requires_grad_(False)
    tiny_network.packed = nn.Parameter(torch.zeros(3, dtype=torch.uint8), requires_grad=False)  # as quantized ones are
    assert gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE) == expected
    assert not any(parameter.requires_grad for parameter in tiny_network.parameters())
    assert all(parameter.grad is None for parameter in tiny_network.parameters())


def test_a_frozen_network_is_frozen_again_after_an_error(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    tiny_network.requires_grad_(False).train()
    tiny_network.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        gradient_norms(CausalLMAdapter(tiny_network, tokenizer), PROBE)
    assert not any(parameter.requires_grad for parameter in tiny_network.parameters())
    assert tiny_network.training


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_gradients_are_had_where_none_are_recorded(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, mode: Any, frozen: bool
) -> None:
    adapter = CausalLMAdapter(tiny_network, tokenizer)
    expected = gradient_norms(adapter, PROBE)
    tiny_network.requires_grad_(not frozen)
    with mode():
        found = gradient_norms(adapter, PROBE)
        assert not torch.is_grad_enabled()
    assert found == expected


def test_runs_under_bf16_autocast(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    adapter = CausalLMAdapter(tiny_network, tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient_norms(adapter, PROBE)
    assert found == pytest.approx(gradient_norms(adapter, PROBE), rel=0.1)


def test_rows_that_are_cut_away_lack_a_norm(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    adapter = CausalLMAdapter(tiny_network, tokenizer)
    short = gradient_norms(adapter, PROBE, max_tokens=5)
    assert list(short) == [4, 2, 7]  # the prompt of row 0 alone is longer
    assert short[2] != gradient_norms(adapter, PROBE)[2]
    with pytest.raises(MisconfigurationError, match="max_tokens=2 cuts away every answer of 1 rows"):
        gradient_norms(adapter, Probe("forget", "question", ROWS[:1], "forget", PLAIN), max_tokens=2)
    assert gradient_norms(adapter, Probe("empty", "question", [], "forget", PLAIN)) == {}


def test_what_was_memorized_has_a_small_norm(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    learned = encode(as_examples(FORGET), tokenizer, PLAIN)
    optimizer = torch.optim.AdamW(tiny_network.parameters(), lr=1e-2)
    for _ in range(30):
        for row in learned:
            tiny_network(input_ids=row.input_ids[None], labels=row.input_ids[None]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapter = CausalLMAdapter(tiny_network, tokenizer)
    known, unknown = (
        list(gradient_norms(adapter, Probe("p", "question", as_examples(rows), "forget", PLAIN)).values())
        for rows in (FORGET, RETAIN)
    )
    truth = [0] * len(known) + [1] * len(unknown)
    assert roc_auc_score(truth, known + unknown) > 0.9
