"""Lenses: what each layer says, against the network's own parts, in many architectures."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.lens import Ending, Lens, LensTraining, learn_translators, lens_texts
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.protocols import Batch, Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.layers import blocks_of, layer_states
from soul_lightning.scoring.scored_model import ScoredModel
from tests.callbacks.tiny_models import learnt
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network
from tests.networks.architectures import ARCHITECTURES, VOCABULARY, seeded

TEXTS = [Probe("retain", "text", as_examples(RETAIN), "retain", PLAIN)]


def scored(network: nn.Module, tokenizer: PreTrainedTokenizerFast) -> ScoredModel:
    return ScoredModel(CausalLMAdapter(network.eval(), tokenizer))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_follows_the_last_block_is_the_networks_own(name: str) -> None:
    """Blocks below are the same in a network that ends behind the first of two, so that its logits are the lens's."""
    network = seeded(name)
    ids = torch.arange(5, 25).view(2, 10)
    ending = Ending(network)
    with torch.no_grad():
        every = torch.ones_like(ids).bool()
        (_, first, _), _ = layer_states(network, Batch(ids, every.long(), ids, torch.arange(2)), every)
        blocks = blocks_of(network)
        blocks[1].forward = lambda states, *_args, **_kwargs: (states, None) if name in TUPLES else states
        shorter = network(input_ids=ids, use_cache=False).logits
        del blocks[1].forward
        torch.testing.assert_close(ending(first), shorter.flatten(0, 1), atol=1e-4, rtol=1e-4)


TUPLES = ("bloom",)
"""Architectures whose blocks give more than hidden states."""


def test_a_network_whose_ending_cannot_be_found_is_refused() -> None:
    network = LogitsNetwork(seeded("llama"), lambda inner, ids, mask: inner(ids, attention_mask=mask).logits)
    with pytest.raises(
        MisconfigurationError, match="layers of LogitsNetwork are asked for, and its blocks cannot be found"
    ):
        Ending(network)


@pytest.mark.parametrize("name", ["gemma2", "gpt2", "mamba", "opt"])
def test_the_last_layer_says_what_the_model_says(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) <= VOCABULARY
    model = scored(seeded(name), tokenizer)
    probe = Probe("asked", "question", as_examples(FORGET), "forget", PLAIN)
    own = {index: -score.mean_nll for index, score in model.scores(probe).items()}
    for kind in ("logit", "tuned"):
        found = Lens(model, TEXTS, kind, LensTraining(steps=2)).scores(probe.examples, PLAIN)
        assert {index: layers[-1] for index, layers in found.items()} == pytest.approx(own, abs=1e-4)
        assert all(len(layers) == 3 for layers in found.values())


def test_an_earlier_layer_is_read_through_norm_and_head(tokenizer: PreTrainedTokenizerFast) -> None:
    network = make_network(len(tokenizer)).eval()
    row = Example("rome and oslo", "bela lives in", 7)
    found = Lens(scored(network, tokenizer), [], "logit", LensTraining()).scores([row], PLAIN)[7]
    ids = torch.tensor([tokenizer("bela lives in rome and oslo <eos>")["input_ids"]])
    start = len(tokenizer("bela lives in")["input_ids"])
    with torch.no_grad():
        states = network(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in (0, 1):
            said = network.lm_head(network.model.norm(states[layer]))[0, start - 1 : -1].log_softmax(-1)
            expected = said.gather(1, ids[0, start:, None]).mean()
            assert found[layer] == pytest.approx(float(expected), abs=1e-5)


def test_translators_start_as_the_logit_lens_and_come_nearer_to_the_last_layer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    network = learnt(tokenizer, [*as_examples(RETAIN), *as_examples(FORGET)], steps=30).eval()
    network.zero_grad()
    model, before = scored(network, tokenizer), fingerprint(network)
    ending = Ending(network)
    ids = torch.tensor([tokenizer("cora lives in oslo <eos>")["input_ids"]])
    with torch.no_grad():
        output = network(input_ids=ids, output_hidden_states=True)
    said, states = output.logits[0].log_softmax(-1), output.hidden_states

    def distance(training: LensTraining, layer: int) -> float:
        translators = learn_translators(model, ending, TEXTS, training)
        with torch.no_grad():
            other = ending(translators(layer, states[layer][0])).log_softmax(-1)
        return float(nn.functional.kl_div(other, said, log_target=True, reduction="batchmean"))

    for layer in (0, 1):
        with torch.no_grad():
            untuned = ending(states[layer][0]).log_softmax(-1)
        logit = float(nn.functional.kl_div(untuned, said, log_target=True, reduction="batchmean"))
        assert distance(LensTraining(steps=1, rate=1e-9), layer) == pytest.approx(logit, rel=1e-3)
        assert distance(LensTraining(), layer) < 0.5 * logit
    assert fingerprint(network) == before and all(parameter.grad is None for parameter in network.parameters())


def test_the_seed_gives_the_same_lens(tokenizer: PreTrainedTokenizerFast) -> None:
    model = scored(make_network(len(tokenizer)), tokenizer)

    def found(seed: int) -> dict[int, list[float]]:
        training = LensTraining(steps=3, tokens=8, seed=seed)
        return Lens(model, TEXTS, "tuned", training).scores(as_examples(FORGET), PLAIN)

    assert found(0) == found(0) != found(1)


def test_a_network_in_half_precision_has_a_lens(tokenizer: PreTrainedTokenizerFast) -> None:
    whole, half = make_network(len(tokenizer)), make_network(len(tokenizer)).bfloat16()
    found = [
        Lens(scored(network, tokenizer), TEXTS, "tuned", LensTraining(steps=2)).scores(as_examples(FORGET), PLAIN)
        for network in (whole, half)
    ]
    assert found[1][0] == pytest.approx(found[0][0], abs=0.1)


def test_what_is_forgotten_teaches_no_lens() -> None:
    rows = as_examples(RETAIN)
    probes = [Probe(role, kind, rows, role) for role in ("forget", "retain", "corrupted", "control", "holdout")
              for kind in ("text", "question", "multiple_choice")]  # fmt: skip
    assert {(probe.role, probe.kind) for probe in lens_texts(probes)} == {
        ("retain", "text"), ("retain", "question"), ("control", "text"), ("control", "question"),
    }  # fmt: skip


def test_training_that_learns_nothing_is_refused() -> None:
    with pytest.raises(MisconfigurationError, match="steps and tokens >= 1 and a rate above 0, got 0, 256 and"):
        LensTraining(steps=0)


def test_a_network_that_changes_what_its_last_block_gives_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    network = make_network(len(tokenizer))
    network.model.norm.register_forward_hook(lambda _norm, _args, output: output.cumsum(dim=1))  # looks at neighbours
    with pytest.raises(MisconfigurationError, match="what follows the last block, which cannot be found in Llama"):
        Ending(network)
