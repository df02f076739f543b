"""A joint pass says of each batch what a pass of its own would, gradients and all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.joint import JointForward, Request
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.networks.predictions import Predictions
from soul_lightning.protocols import Batch
from tests.networks.architectures import ARCHITECTURES, VOCABULARY, seeded


def rows(lengths: list[int], seed: int, labels_from: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=generator) * mask
    labels = torch.where(mask == 1, ids, -100)
    labels[:, :labels_from] = -100
    return Batch(ids, mask, labels, torch.arange(len(lengths)))


def assert_same(found: Predictions, expected: Predictions) -> None:
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.targets, expected.targets)
    assert torch.equal(found.rows, expected.rows)
    assert found.batch_size == expected.batch_size
    assert found.alternatives.keys() == expected.alternatives.keys()
    for view, other in expected.alternatives.items():
        assert_same(found.alternatives[view], other)
    if expected.hidden is not None:
        assert found.hidden is not None
        torch.testing.assert_close(found.hidden, expected.hidden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_both_ways_say_the_same(name: str) -> None:
    network = seeded(name)
    # Labels from the first token on: nothing predicts it, the neighbour before it least of all.
    batches = [rows([9, 3, 5], 1), rows([4, 12], 2, labels_from=0), rows([7], 3).without_labels()]
    with torch.no_grad():
        found = JointForward()(network, [Request(batch) for batch in batches])
        for predictions, batch in zip(found, batches, strict=True):
            assert_same(predictions, label_predictions(network, batch))


def test_gradients_are_those_of_separate_passes() -> None:
    network = seeded("llama")
    forget, retain = rows([9, 3, 5], 1), rows([4, 12, 6], 2)

    def gradients(predictions: list[Predictions]) -> list[torch.Tensor]:
        first, second = predictions
        return list(torch.autograd.grad(first.log_probs.mean() - second.log_probs.mean(), list(network.parameters())))

    joint = gradients(JointForward()(network, [Request(forget), Request(retain)]))
    apart = gradients([label_predictions(network, forget), label_predictions(network, retain)])
    assert any(float(value.abs().max()) > 1e-3 for value in apart)
    for one, other in zip(joint, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_other_texts_and_hidden_states_come_along() -> None:
    network = seeded("qwen3")
    refusals = rows([6, 4, 11], 5)
    with_refusals = replace(rows([9, 3, 5], 1), alternatives={"refusal": refusals})
    requests = [Request(with_refusals, 1), Request(rows([4, 12], 2)), Request(rows([5, 8], 3), 2)]
    with torch.no_grad():
        found = JointForward()(network, requests)
        for predictions, request in zip(found, requests, strict=True):
            assert (predictions.hidden is None) == (request.hidden_layer is None)
            assert_same(predictions, label_predictions(network, request.batch, request.hidden_layer))


def test_padding_that_is_read_stays() -> None:
    network = seeded("llama")
    batch = rows([9, 3], 1).seen_as(("every_position",))
    assert bool((batch.labels[batch.attention_mask == 0] != -100).all())
    other = rows([4, 12], 2)
    with torch.no_grad():
        padded, packed = JointForward()(network, [Request(batch, reads_padding=True), Request(other)])
        assert_same(padded, label_predictions(network, batch))
        assert_same(packed, label_predictions(network, other))


def test_one_pass_serves_all_batches_and_hardly_a_token_is_padding() -> None:
    network, shapes = seeded("llama"), []
    network.register_forward_pre_hook(
        lambda _module, _args, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    batches = [rows([20, 5, 6, 9], 1), rows([10, 30, 3, 17], 2)]
    joint = JointForward()
    joint(network, [Request(batch) for batch in batches])
    shapes.clear()  # the network was tried first, once
    joint(network, [Request(batch) for batch in batches])
    assert len(shapes) == 1
    assert shapes[0].numel() <= 1.1 * 100


def test_adapters_are_packed_too(tiny_network: LlamaForCausalLM) -> None:
    network = _add_lora(tiny_network, LoraSettings(r=2)).eval()
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    batches = [rows([9, 3, 5], 1), rows([4, 12], 2)]
    for batch in batches:
        batch.input_ids %= tiny_network.config.vocab_size
    with torch.no_grad():
        found = JointForward()(network, [Request(batch) for batch in batches])
        for predictions, batch in zip(found, batches, strict=True):
            torch.testing.assert_close(
                predictions.logits, label_predictions(network, batch).logits, rtol=1e-4, atol=1e-5
            )


def test_another_network_is_tried_anew() -> None:
    joint, batch = JointForward(), rows([9, 3, 5], 1)
    with torch.no_grad():
        for name in ("llama", "bloom", "llama"):
            network = seeded(name)
            (found,) = joint(network, [Request(batch)])
            assert_same(found, label_predictions(network, batch))
