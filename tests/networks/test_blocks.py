"""Activations that are recomputed and blocks that are compiled change no loss and no gradient."""

from __future__ import annotations

import copy
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from soul_lightning import GaussNewtonBartlett, Hutchinson, Sophia, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.blocks import checkpoint_blocks, compile_blocks, repeated_blocks
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from soul_lightning.networks.packing import packed_layout
from soul_lightning.objectives import NPO, CrossEntropy, KLDivergence
from soul_lightning.optim.curvature import CurvatureEstimator, plain_backward
from tests.conftest import TinyDataModule, make_network, make_trainer

LORA = LoraSettings(r=2, dropout=0.3)


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, dropout: float = 0.0) -> str:
    make_network(len(tokenizer), dropout=dropout).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def train(
    source: PretrainedNetwork,
    folder: Path,
    curvature: CurvatureEstimator | None = None,
    *,
    retain: Any = None,
    **settings: Any,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights, and optimizer states and losses, after four optimizer steps."""
    optimizer = partial(Sophia, lr=1e-3, rho=0.4) if curvature else partial(torch.optim.SGD, lr=0.05)
    module = UnlearningModule(
        source, NPO(0.5), retain or CrossEntropy(), optimizer=optimizer, curvature=curvature, max_grad_norm=None
    )
    torch.manual_seed(0)  # the adapters' weights, and dropout
    trainer = make_trainer(folder, max_epochs=2, **settings)
    trainer.fit(module, datamodule=TinyDataModule(4))
    (stepped,) = trainer.optimizers
    states = {
        f"{key} of {name}": value
        for name, parameter in module.network.named_parameters()
        for key, value in stepped.state.get(parameter, {}).items()
    }
    losses = {name: value for name, value in trainer.logged_metrics.items() if name.startswith("train/")}
    return {name: p.detach().clone() for name, p in module.network.named_parameters()}, {**states, **losses}


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "lora"])
@pytest.mark.parametrize(
    "curvature",
    [None, partial(GaussNewtonBartlett, 2, "both"), partial(GaussNewtonBartlett, 2), partial(Hutchinson, 2)],
    ids=["first order", "gauss-newton both", "gauss-newton", "hutchinson"],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_recomputed_activations_change_nothing(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, lora: LoraSettings | None, curvature: Any, precision: str
) -> None:
    """Dropout included: it draws the same numbers when a block is run again."""
    folder = save(tmp_path / "model", tokenizer, dropout=0.2)
    (weights, states), (recomputed, others) = (
        train(
            PretrainedNetwork(folder, lora=lora, gradient_checkpointing=checkpointing),
            tmp_path,
            curvature() if curvature else None,
            retain=KLDivergence(),
            precision=precision,
        )
        for checkpointing in (False, True)
    )
    assert weights.keys() == recomputed.keys() and states.keys() == others.keys()
    for name, values in (weights | states).items():
        torch.testing.assert_close((recomputed | others)[name], values)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_blocks_are_run_again_in_the_backward_pass(tiny_network: LlamaForCausalLM, kind: str) -> None:
    network = tiny_network if kind == "llama" else GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2)).train()
    runs: list[int] = []
    checkpoint_blocks(network.train())
    for block in repeated_blocks(network):
        inner = next(module for module in block.modules() if isinstance(module, nn.Linear | Conv1D))
        inner.register_forward_hook(lambda *_: runs.append(1))
    loss = network(input_ids=torch.tensor([[5, 6, 7]])).logits.sum()
    once = len(runs)
    loss.backward()
    assert once > 0 and len(runs) == 2 * once


def test_an_architecture_without_blocks_is_named(tiny_network: LlamaForCausalLM) -> None:
    class Unable(LlamaForCausalLM):
        supports_gradient_checkpointing = False

    with pytest.raises(MisconfigurationError, match=r"gradient_checkpointing: Unable does not support it; leave it"):
        checkpoint_blocks(Unable(tiny_network.config))
    with pytest.raises(MisconfigurationError, match="compiles repeated blocks, and Linear has none"):
        compile_blocks(nn.Linear(2, 2))


def test_repeated_blocks(tiny_network: LlamaForCausalLM, model_folder: Path) -> None:
    assert repeated_blocks(tiny_network) == list(tiny_network.model.layers)
    lora = PretrainedNetwork(str(model_folder), lora=LORA).load_network()
    assert [type(block).__name__ for block in repeated_blocks(lora)] == ["LlamaDecoderLayer"] * 2


def test_a_missing_compiler_is_named(tiny_network: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MisconfigurationError, match="there is no 'no-such-compiler'"):
        compile_blocks(tiny_network)


@pytest.fixture
def compiled_network(tiny_network: LlamaForCausalLM) -> LlamaForCausalLM:
    """A copy of the tiny network with compiled blocks."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("there is no C++ compiler")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    network = copy.deepcopy(tiny_network)
    compile_blocks(network)
    return network


@pytest.mark.slow
def test_compiled_blocks_change_nothing(
    tiny_network: LlamaForCausalLM, compiled_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Batches of several shapes, with the head at labelled rows only, and a graph that is gone through twice."""
    data = TinyDataModule(4, tokenizer=tokenizer)
    data.setup()
    batches = [batch for name in ("forget", "retain") for batch in data.stream(name)]
    assert len({batch.input_ids.shape for batch in batches}) > 2
    assert compiled_network.state_dict().keys() == tiny_network.state_dict().keys()
    for batch in batches:
        found = []
        for network in (tiny_network, compiled_network):
            network.zero_grad()
            log_probs = label_predictions(network, batch).log_probs
            log_probs.square().sum().backward(retain_graph=True)
            log_probs.sum().backward()
            found.append([log_probs.detach(), *(parameter.grad for parameter in network.parameters())])
        torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def test_a_trial_on_packed_rows_compiles_nothing(compiled_network: LlamaForCausalLM) -> None:
    assert packed_layout(compiled_network) == "rows"
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


@pytest.mark.slow
def test_second_derivatives_go_through_the_blocks_as_they_were_written(
    tiny_network: LlamaForCausalLM, compiled_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = TinyDataModule(4, tokenizer=tokenizer)
    data.setup()
    batch = next(data.stream("forget"))
    found = []
    for network in (tiny_network, compiled_network):
        parameters, hutchinson = list(network.parameters()), Hutchinson()
        with hutchinson.forward_context():
            mean = hutchinson.surrogate(label_predictions(network, batch), batch.index, 0) / batch.labelled_tokens
            hutchinson.accumulate(mean, parameters, 0, keep_graph=False, backward=plain_backward)
        found.append([parameter.grad for parameter in parameters])
    torch.testing.assert_close(found[1], found[0])
