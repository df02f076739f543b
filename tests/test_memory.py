"""The parts of a memory estimate, each beside what is really there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning import Sophia, UnlearningModule
from soul_lightning.memory import MemoryEstimate, PassSize, activation_bytes, estimate_memory, optimizer_bytes
from soul_lightning.networks.blocks import checkpoint_blocks
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from soul_lightning.objectives import NPO, CrossEntropy, KLDivergence
from tests.conftest import TinyDataModule, make_network

SIZE = PassSize(rows=3, tokens=50, labelled=20)


def estimated(network: Any, tokenizer: PreTrainedTokenizerFast, retain: Any = None, **settings: Any) -> MemoryEstimate:
    module = UnlearningModule(network, NPO(0.5), retain or CrossEntropy(), tokenizer=tokenizer, **settings)
    module.configure_model()
    data = TinyDataModule(4, tokenizer=tokenizer)
    data.setup()
    return estimate_memory(module, data)


def kept_by(network: LlamaForCausalLM, size: PassSize) -> int:
    """What autograd keeps of the blocks of a real pass; the head and the loss are left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = 0 if storage.data_ptr() in own else storage.nbytes()
        return tensor

    ids = torch.full((size.rows, size.tokens), 5)
    mask = torch.ones_like(ids)
    mask[:, -1] = 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network.model(input_ids=ids, attention_mask=mask, use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_activations_are_those_of_a_real_pass(tokenizer: PreTrainedTokenizerFast, attention: str) -> None:
    network = make_network(len(tokenizer))
    network.set_attn_implementation(attention)
    for size in (SIZE, PassSize(rows=1, tokens=120, labelled=1)):
        assert activation_bytes(network, size) == pytest.approx(kept_by(network, size), rel=0.03)


def test_recomputed_activations_are_the_blocks_inputs_and_one_block(tiny_network: LlamaForCausalLM) -> None:
    whole = activation_bytes(tiny_network, SIZE)
    checkpoint_blocks(tiny_network.train())
    inputs = kept_by(tiny_network, SIZE)
    assert inputs < 0.3 * whole
    assert activation_bytes(tiny_network, SIZE) == pytest.approx(inputs + (whole - inputs) / 2, rel=0.03)
    assert all(layer.gradient_checkpointing for layer in tiny_network.model.layers)


@pytest.mark.parametrize(
    ("factory", "states"),
    [(partial(SGD, lr=0.1), 0), (partial(SGD, lr=0.1, momentum=0.9), 1), (partial(AdamW, fused=True), 2), (Sophia, 2)],
)
def test_optimizer_states_are_those_after_a_step(
    tiny_network: LlamaForCausalLM, factory: Callable[[Iterable[Tensor]], Optimizer], states: int
) -> None:
    parameters = list(tiny_network.parameters())
    expected = optimizer_bytes(factory, parameters)
    optimizer = factory(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert expected == sum(value.nbytes for value in held if value.dim() > 0)
    assert expected == states * sum(parameter.nbytes for parameter in parameters)


def test_weights_gradients_and_references_are_counted(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, model_folder: Path
) -> None:
    weights = sum(tensor.nbytes for tensor in (*tiny_network.parameters(), *tiny_network.buffers()))
    parameters = [parameter.nbytes for parameter in tiny_network.parameters()]
    full = estimated(tiny_network, tokenizer)
    assert full.weights == weights
    assert full.gradients == sum(parameters) + max(parameters)
    assert full.optimizer == 2 * sum(parameters)
    data = TinyDataModule(4, tokenizer=tokenizer)
    data.setup()
    labelled = sum(batch.labelled_tokens for batch in data.stream("forget"))
    assert full.reference == 4 * labelled
    top_k = estimated(tiny_network, tokenizer, reference_policy="top_k_logits", reference_top_k=5)
    assert top_k.reference == (4 + 8 * 5) * labelled
    assert estimated(tiny_network, tokenizer, KLDivergence()).reference == 4 * labelled + weights
    assert estimated(tiny_network, tokenizer, KLDivergence(), reference_policy="frozen_copy").reference == weights
    lora = estimated(PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2)), tokenizer, KLDivergence())
    assert lora.reference == 0
    assert lora.gradients < 0.2 * full.gradients and lora.optimizer < 0.2 * full.optimizer


def test_micro_batches_lower_what_a_pass_holds(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    whole, cut = (estimated(tiny_network, tokenizer, micro_batches=parts) for parts in (1, 4))
    assert (whole.size.rows, cut.size.rows) == (8, 2)  # of two streams
    assert cut.logits < whole.logits and cut.activations < whole.activations
    assert whole.logits == whole.size.labelled * len(tokenizer) * 8  # float32, and the gradient
    assert whole.total - cut.total == whole.logits - cut.logits + whole.activations - cut.activations


def test_an_estimate_changes_nothing(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    before = {name: value.clone() for name, value in tiny_network.state_dict().items()}
    state, mode = torch.get_rng_state(), tiny_network.training
    estimated(tiny_network, tokenizer)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in tiny_network.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_network.parameters())
    assert tiny_network.training == mode


def test_an_optimizer_that_knows_the_networks_parameters_alone(tiny_network: LlamaForCausalLM) -> None:
    rates = {id(parameter): 1e-3 for parameter in tiny_network.parameters()}

    def by_parameter(parameters: Iterable[Tensor]) -> Optimizer:
        return AdamW([{"params": [parameter], "lr": rates[id(parameter)]} for parameter in parameters])

    with pytest.warns(UserWarning, match=r"states are not in the estimate of memory.*\(KeyError: "):
        assert optimizer_bytes(by_parameter, tiny_network.parameters()) == 0
