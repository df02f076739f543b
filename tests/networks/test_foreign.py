"""A transformer written by hand is scored and asked as its own forward pass says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.networks.forward import label_predictions
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.generation import generated_answers
from soul_lightning.scoring.gradient_norms import gradient_norms
from soul_lightning.scoring.prompts import encode_prompts
from soul_lightning.scoring.scorer import Scorer
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples

ROWS = [
    *as_examples(FORGET + RETAIN),
    Example("oslo", "where does cora live ?", 20, context="who plays the harp ? dina . "),
    Example("rome", "where does egon live ?", 21, context="who plays the harp ? dina . "),
]


class HandWritten(nn.Module):
    """Embeddings, learned positions, two causal blocks and a head; knows nothing of padding."""

    def __init__(self, vocabulary: int, width: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(64, width)
        block = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.5, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, tokens, vocabulary] logits."""
        hidden = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        logits: Tensor = self.head(self.blocks(hidden, mask=mask))
        return logits


def plain_logits(network: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """What a user writes."""
    logits: Tensor = network(input_ids)
    return logits


@pytest.fixture
def hand_written(tokenizer: PreTrainedTokenizerFast) -> HandWritten:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = HandWritten(len(tokenizer))
        with torch.no_grad():
            network.head.weight.mul_(6)  # so that answers differ
    return network


@pytest.fixture
def adapter(hand_written: HandWritten, tokenizer: PreTrainedTokenizerFast) -> CausalLMAdapter:
    return CausalLMAdapter(LogitsNetwork(hand_written, plain_logits), tokenizer)


@pytest.mark.parametrize("token_budget", [1, 2048])
def test_scores_are_those_of_each_row_alone(
    adapter: CausalLMAdapter, hand_written: HandWritten, tokenizer: PreTrainedTokenizerFast, token_budget: int
) -> None:
    hand_written.train()
    scores = Scorer(adapter, token_budget)(ROWS, PLAIN)
    assert [score.index for score in scores] == [row.index for row in ROWS]
    assert hand_written.training and hand_written.blocks.layers[0].training
    hand_written.eval()
    for score, row in zip(scores, encode(ROWS, tokenizer, PLAIN), strict=True):
        with torch.no_grad():
            log_probs = hand_written(row.input_ids[None])[0].log_softmax(-1)
        expected = log_probs[torch.arange(len(row) - 1), row.input_ids[1:]][row.prompt_tokens - 1 :]
        torch.testing.assert_close(score.statistics.log_probs, expected, rtol=1e-4, atol=1e-5)


def one_by_one(network: nn.Module, tokenizer: PreTrainedTokenizerFast, max_new_tokens: int) -> list[str]:
    """The likeliest token, again and again, for each row alone."""
    answers = []
    network.eval()
    for prompt in encode_prompts(ROWS, tokenizer, PLAIN):
        ids = list(prompt.whole().rest)
        for _ in range(max_new_tokens):
            with torch.no_grad():
                ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        answers.append(str(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)).strip())
    return answers


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_answers_are_those_of_each_row_alone(
    adapter: CausalLMAdapter, hand_written: HandWritten, tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> None:
    found = generated_answers(
        adapter.network, tokenizer, ROWS, PLAIN, max_new_tokens=8, batch_size=batch_size, stop=None
    )
    assert found == one_by_one(hand_written, tokenizer, 8)
    assert len(set(found)) > 5


def test_gradient_norms_are_those_of_the_network(
    adapter: CausalLMAdapter, hand_written: HandWritten, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = gradient_norms(adapter, Probe("forget", "question", ROWS[:3], "forget", PLAIN))
    hand_written.eval()
    for row in encode(ROWS[:3], tokenizer, PLAIN):
        log_probs = hand_written(row.input_ids[None])[0].log_softmax(-1)
        picked = log_probs[torch.arange(len(row) - 1), row.input_ids[1:]][row.prompt_tokens - 1 :]
        gradients = torch.autograd.grad(-picked.mean(), list(hand_written.parameters()))
        expected = float(torch.cat([each.flatten() for each in gradients]).norm())
        assert found[row.index] == pytest.approx(expected, rel=1e-4)


def test_padding_stands_on_the_right(hand_written: HandWritten, tokenizer: PreTrainedTokenizerFast) -> None:
    masks: list[Tensor] = []

    def recorded(network: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        assert input_ids.shape == attention_mask.shape
        masks.append(attention_mask)
        return plain_logits(network, input_ids, attention_mask)

    adapter = CausalLMAdapter(LogitsNetwork(hand_written, recorded), tokenizer)
    Scorer(adapter)(ROWS, PLAIN)
    scoring = len(masks)
    adapter.generate(ROWS, PLAIN, 4)
    assert len(masks) > scoring > 0
    assert any(not mask.all() for mask in masks[:scoring]) and any(not mask.all() for mask in masks[scoring:])
    for mask in masks:
        assert bool((mask.diff(dim=1) <= 0).all())  # ones, then zeros
        assert bool((mask[:, 0] == 1).all())


def test_the_weights_are_the_networks_own(hand_written: HandWritten) -> None:
    shown = LogitsNetwork(hand_written, plain_logits)
    assert [id(each) for each in shown.parameters()] == [id(each) for each in hand_written.parameters()]
    ids = torch.tensor([[1, 5, 6]])
    shown.eval()
    with torch.no_grad():
        assert torch.equal(shown(ids, torch.ones_like(ids), use_cache=True).logits, hand_written(ids))


def test_hidden_states_are_refused_in_one_sentence(
    adapter: CausalLMAdapter, tokenizer: PreTrainedTokenizerFast
) -> None:
    batch = collate(encode(ROWS[:2], tokenizer, PLAIN), 0)
    with pytest.raises(MisconfigurationError, match="hidden layer 1 is asked for, and the network gives no hidden"):
        label_predictions(adapter.network, batch, hidden_layer=1)
