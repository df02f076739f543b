"""Rounding against a loop of plain arithmetic and against the libraries' layers; what is rounded and what stays."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from soul_lightning.attacks import quantization
from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.quantization import check_schemes, quantized_copy, round_to_nearest
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.networks.linear_layers import linear_layers
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from soul_lightning.networks.quantization import is_quantized, quantization_settings
from soul_lightning.networks.saving import save_pretrained
from tests.conftest import make_network

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def near_by_hand(weight: Tensor, bits: int, group_size: int | None) -> list[list[set[float]]]:
    """[outputs][inputs] the values of the grid that lie nearest, two of them where a weight lies halfway."""
    found = []
    for row in weight.double().tolist():
        near: list[set[float]] = []
        size = group_size or len(row)
        for start in range(0, len(row), size):
            group = row[start : start + size]
            step = max(map(abs, group)) / (2 ** (bits - 1) - 1)
            grid = [code * step for code in range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))]
            for value in group:
                least = min(abs(value - other) for other in grid) + 1e-9 * step
                near.append(
                    {
                        float(torch.tensor(other, dtype=torch.float64).to(weight.dtype))
                        for other in grid
                        if abs(value - other) <= least
                    }
                )
        found.append(near)
    return found


@st.composite
def weights(draw: st.DrawFn) -> Tensor:
    """Matrices of any scale, some of whose weights are zero, some equal, some far from the others."""
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    scale = draw(st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
    cell = st.sampled_from([0.0, 1.0, -1.0, 0.5]) | st.floats(-1, 1, width=32)
    values = draw(st.lists(cell, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    kept = TYPES[draw(st.sampled_from(sorted(TYPES)))]
    return (torch.tensor(values, dtype=torch.float64).reshape(shape) * scale).to(kept)


BITS, GROUPS = st.sampled_from([2, 4, 8]), st.none() | st.integers(2, 10)


@given(weights(), BITS, GROUPS)
def test_it_is_what_a_loop_over_the_grid_finds(weight: Tensor, bits: int, group_size: int | None) -> None:
    rounded = round_to_nearest(weight, bits, group_size)
    assert rounded.dtype == weight.dtype and rounded.shape == weight.shape
    for row, near in zip(rounded.tolist(), near_by_hand(weight, bits, group_size), strict=True):
        assert all(value in values for value, values in zip(row, near, strict=True))


@given(weights(), BITS, GROUPS)
def test_no_weight_moves_more_than_half_a_step(weight: Tensor, bits: int, group_size: int | None) -> None:
    rounded = round_to_nearest(weight, bits, group_size).double()
    for part, own in zip(
        weight.double().split(group_size or weight.shape[1], 1),
        rounded.split(group_size or weight.shape[1], 1),
        strict=True,
    ):
        step = part.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        info = torch.finfo(weight.dtype)
        own_rounding = info.eps * part.abs() + info.smallest_normal * info.eps
        assert ((own - part).abs() <= step / 2 + own_rounding).all()
        assert torch.equal(own.abs().amax(1), part.abs().amax(1))  # the largest spans the grid and stays


@given(weights(), BITS, GROUPS)
def test_what_is_rounded_stays_and_so_does_what_is_constant(weight: Tensor, bits: int, group_size: int | None) -> None:
    rounded = round_to_nearest(weight, bits, group_size)
    assert torch.equal(round_to_nearest(rounded, bits, group_size), rounded)
    constant = weight[:, :1].expand_as(weight).contiguous()
    assert torch.equal(round_to_nearest(constant, bits, group_size), constant)
    assert torch.equal(round_to_nearest(torch.zeros_like(weight), bits, group_size), torch.zeros_like(weight))
    assert torch.equal(round_to_nearest(-weight, bits, group_size), -rounded)


def test_numbers_worked_out_by_hand() -> None:
    row = torch.tensor([[7.0, 3.4, -0.6, 0.4, 1.4, -0.3, 0.05]])
    assert round_to_nearest(row, 4).tolist() == [[7.0, 3.0, -1.0, 0.0, 1.0, 0.0, 0.0]]
    by_four = round_to_nearest(row, 4, 4)  # the last three share a step of 0.2
    torch.testing.assert_close(by_four, torch.tensor([[7.0, 3.0, -1.0, 0.0, 1.4, -0.4, 0.0]]), atol=1e-6, rtol=0)


def gpt2(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("scheme", ["int8", "int4", "nf4", "bnb_int8", "torchao_int8", "torchao_int4"])
def test_linear_layers_are_rounded_and_nothing_else(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, kind: str, scheme: Any
) -> None:
    if scheme in quantization.PACKAGES:
        pytest.importorskip(quantization.PACKAGES[scheme][0], reason="an extra is not installed")
    network: Any = tiny_network if kind == "llama" else gpt2(tokenizer)
    before = fingerprint(network)
    rounded: Any = quantized_copy(network, scheme, 16, "the test")
    assert fingerprint(network) == before and not rounded.training
    names = {f"{name}.weight" for name, _ in linear_layers(network)}
    assert len(names) == {"llama": 14, "gpt2": 8}[kind]  # 2 blocks with 7 and 4 matrices each; no head
    kept = dict(rounded.named_parameters())
    for name, weight in network.named_parameters():
        if name not in names:
            assert torch.equal(weight, kept[name])
        elif scheme != "bnb_int8":  # whose layers keep codes
            moved = (weight - kept[name]).detach().abs().max() / weight.detach().abs().max()
            assert 0 < float(moved) < 0.2
    assert rounded.get_output_embeddings().weight is rounded.get_input_embeddings().weight
    said, meant = rounded(input_ids=IDS).logits, network.eval()(input_ids=IDS).logits
    assert 0 < float((said - meant).detach().abs().max()) < (0.02 if "8" in scheme else 0.15)
    (gradient,) = torch.autograd.grad(said.sum(), rounded.get_input_embeddings().weight)
    assert float(gradient.abs().max()) > 0  # callbacks that read gradients measure it too


def test_output_channels_are_columns_in_gpt2(tokenizer: PreTrainedTokenizerFast) -> None:
    network: Any = gpt2(tokenizer)
    layer = network.transformer.h[0].mlp.c_fc  # [inputs, outputs]
    own: Any = quantized_copy(network, "int8", 128, "the test").get_submodule("transformer.h.0.mlp.c_fc")
    assert torch.equal(own.weight, round_to_nearest(layer.weight.T, 8).T)


def test_nf4_is_what_the_library_makes_of_a_folder(tmp_path: Path) -> None:
    functional: Any = pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed").functional
    config = LlamaConfig(
        vocab_size=16, hidden_size=64, intermediate_size=192, num_hidden_layers=1, num_attention_heads=2
    )
    network = LlamaForCausalLM(config)
    network.save_pretrained(tmp_path)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path, **quantization_settings("nf4", torch.float32))
    for name, layer in linear_layers(quantized_copy(network, "nf4", 128, "the test")):
        theirs = loaded.get_submodule(name).weight
        assert torch.equal(layer.weight, functional.dequantize_4bit(theirs.data, theirs.quant_state))


def test_nf4_is_the_nearest_code_of_its_block_whatever_the_shape(tiny_network: LlamaForCausalLM) -> None:
    """Rows of 32 weights: half a block. The blocks' scales are rounded, too."""
    functional: Any = pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed").functional
    codes = functional.get_4bit_type("nf4", device="cpu")
    own = dict(linear_layers(quantized_copy(tiny_network, "nf4", 128, "the test")))
    for name, layer in linear_layers(tiny_network):
        blocks = layer.weight.detach().reshape(-1, 64)
        scale = blocks.abs().amax(1, keepdim=True)
        nearest = codes[((blocks / scale)[..., None] - codes).abs().argmin(-1)] * scale
        assert ((own[name].weight.reshape(-1, 64) - nearest).abs() < 0.02 * scale).all()


def test_bnb_int8_is_what_the_library_makes_of_a_folder(model_folder: Path, tiny_network: LlamaForCausalLM) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    loaded: Any = AutoModelForCausalLM.from_pretrained(model_folder, **quantization_settings("int8", torch.float32))
    own = quantized_copy(tiny_network, "bnb_int8", 128, "the test")
    torch.testing.assert_close(own(input_ids=IDS).logits, loaded.eval()(input_ids=IDS).logits)


def test_torchao_and_we_round_by_channel_alike(tiny_network: LlamaForCausalLM) -> None:
    pytest.importorskip("torchao", reason="the extra torchao is not installed")
    theirs = dict(linear_layers(quantized_copy(tiny_network, "torchao_int8", 128, "the test")))
    for name, layer in linear_layers(quantized_copy(tiny_network, "int8", 128, "the test")):
        step = layer.weight.abs().amax(1, keepdim=True) / 127
        assert ((layer.weight - theirs[name].weight).abs() <= step).all()  # its grid reaches to 127.5 steps


def test_what_is_rounded_is_what_would_be_exported(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    adapters = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    network: Any = get_peft_model(tiny_network, adapters)
    before = fingerprint(network)
    save_pretrained(network, tokenizer, tmp_path / "export")
    exported: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    with torch.inference_mode():
        own = quantized_copy(network, "int4", 16, "the test")
    assert fingerprint(network) == before
    assert fingerprint(own) == fingerprint(quantized_copy(exported, "int4", 16, "the test"))
    assert not any(weight.is_inference() for weight in own.parameters())


def test_what_is_rounded_already_is_turned_back_first(model_folder: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    adapted: Any = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2), quantization="nf4").load_network()
    bare: Any = AutoModelForCausalLM.from_pretrained(model_folder, **quantization_settings("nf4", torch.float32))
    for network in (adapted, bare):
        before = fingerprint(network)
        own = quantized_copy(network, "int8", 128, "the test")
        assert is_quantized(network) and not is_quantized(own) and fingerprint(network) == before
        error = own(input_ids=IDS).logits - network.eval()(input_ids=IDS).logits
        assert 0 < float(error.detach().abs().max()) < 0.02


def test_a_network_of_another_kind(tiny_network: LlamaForCausalLM) -> None:
    wrapped = LogitsNetwork(tiny_network, lambda network, ids, mask: network(input_ids=ids, attention_mask=mask).logits)
    own = quantized_copy(wrapped, "int4", 16, "the test")
    inner = quantized_copy(tiny_network, "int4", 16, "the test")
    mask = torch.ones_like(IDS)
    torch.testing.assert_close(own(IDS, mask).logits, inner(input_ids=IDS, attention_mask=mask).logits)


def test_one_weight_of_two_layers_is_rounded_once() -> None:
    network: Any = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    network[1].weight = network[0].weight
    own: Any = quantized_copy(network, "int4", 4, "the test")
    assert own[1].weight is own[0].weight
    assert torch.equal(own[0].weight, round_to_nearest(network[0].weight, 4, 4))


@pytest.mark.parametrize("schemes", [[], ["int3"], ["int4", "int4"]])
def test_schemes_that_are_none_are_refused(schemes: list[str]) -> None:
    with pytest.raises(MisconfigurationError, match=r"X: schemes must be some of int8, int4, .*got \["):
        check_schemes(schemes, 128, "X")
    with pytest.raises(MisconfigurationError, match=r"group_size >= 2, got \['int4'\] and 1"):
        check_schemes(["int4"], 1, "X")


@pytest.mark.parametrize(
    ("scheme", "extra"),
    [("nf4", "qlora"), ("bnb_int8", "qlora"), ("torchao_int8", "torchao"), ("torchao_int4", "torchao")],
)
def test_a_missing_package_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: find_spec(name) if name == "torch" else None)
    with pytest.raises(
        MisconfigurationError, match=rf"X: the scheme {scheme} .*pip install 'soul-lightning\[{extra}\]'"
    ):
        check_schemes(["int8", scheme], 128, "X")
    check_schemes(["int8", "int4"], 128, "X")


def test_a_network_without_linear_layers_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    network: Any = nn.Embedding(len(tokenizer), 4)
    with pytest.raises(MisconfigurationError, match="X rounds the weights of linear layers, and Embedding has none"):
        quantized_copy(network, "int4", 128, "X")
    tied = make_network(len(tokenizer))
    assert all("head" not in name for name, _ in linear_layers(tied))
