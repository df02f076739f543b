"""Adapters on rounded weights: what is frozen, what is refused, what is trained, resumed and exported."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks import quantization
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from soul_lightning.networks.quantization import is_quantized
from soul_lightning.networks.saving import save_pretrained
from soul_lightning.objectives import NPO, CrossEntropy
from tests.conftest import TinyDataModule, make_trainer

LORA = LoraSettings(r=2)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def quantized(folder: Path, kind: Any = "nf4", **settings: Any) -> PretrainedNetwork:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    return PretrainedNetwork(str(folder), lora=LORA, quantization=kind, **settings)


def module_on(source: PretrainedNetwork) -> UnlearningModule:
    return UnlearningModule(
        source,
        NPO(0.5),
        CrossEntropy(),
        optimizer=partial(Sophia, lr=3e-3, rho=0.4),
        curvature=GaussNewtonBartlett(2),
    )


def adapters(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}


def test_what_cannot_be_rounded_is_refused(model_folder: Path) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"quantization nf4 rounds the weights, which then cannot train; set"
    ):
        PretrainedNetwork(str(model_folder), quantization="nf4").load_network()
    for settings in ({"adapter": "somewhere"}, {"random_weights": True}):
        with pytest.raises(MisconfigurationError, match=f"and network.{next(iter(settings))} changes them afterwards"):
            PretrainedNetwork(str(model_folder), quantization="int8", lora=LORA, **settings).load_network()


def test_a_4_bit_model_from_elsewhere_stays_differentiable(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Of a kind of processor: bitsandbytes would repack the weights where they run in evaluation mode."""
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    settings = quantization.quantization_settings("nf4", torch.float32)
    base = AutoModelForCausalLM.from_pretrained(model_folder, **settings)
    network: Any = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    module = UnlearningModule(network.train(), NPO(0.5), CrossEntropy(), tokenizer=tokenizer)
    layers: list[Any] = [layer for layer in network.modules() if hasattr(layer, "support_avx512bf16_for_cpu")]
    assert layers and not any(layer.support_avx512bf16_for_cpu for layer in layers)
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=TinyDataModule(4))
    assert float(trainer.logged_metrics["train/gradient_norm"]) > 0.01


def test_a_missing_package_is_named(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(MisconfigurationError, match=r"nf4 needs the package bitsandbytes; .*soul-lightning\[qlora\]"):
        PretrainedNetwork(str(model_folder), quantization="nf4", lora=LORA).load_network()


@pytest.mark.parametrize(("kind", "bits"), [("nf4", 4), ("int8", 8)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_rounded_and_adapters_are_float32(
    model_folder: Path, tiny_network: LlamaForCausalLM, kind: str, bits: int, dtype: Any
) -> None:
    network = quantized(model_folder, kind, dtype=dtype).load_network()
    assert is_quantized(network) and not is_quantized(tiny_network)
    (rounded,) = {p.dtype for name, p in network.named_parameters() if "base_layer.weight" in name}
    assert rounded == {4: torch.uint8, 8: torch.int8}[bits]
    whole = sum(p.nbytes for name, p in tiny_network.named_parameters() if "_proj" in name)
    assert sum(p.nbytes for n, p in network.named_parameters() if "base_layer.weight" in n) == whole * bits // 32
    assert {p.dtype for p in adapters(network).values()} == {torch.float32}
    assert {p.dtype for name, p in network.named_parameters() if "norm" in name} == {torch.float32}
    error = network(input_ids=IDS).logits - tiny_network(input_ids=IDS).logits
    assert 0 < float(error.abs().max()) < {4: 0.15, 8: 0.03}[bits]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_adapters_train_resume_and_are_exported(
    model_folder: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, kind: str, checkpointing: bool
) -> None:
    """The reference (adapters off) runs in evaluation mode between the steps, and gradients flow after it."""
    source = quantized(model_folder, kind, gradient_checkpointing=checkpointing)
    torch.manual_seed(0)
    whole, first = module_on(source), module_on(source)
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(whole, datamodule=TinyDataModule(4))
    assert float(trainer.logged_metrics["train/gradient_norm"]) > 0.01
    assert float(trainer.logged_metrics["curvature/norm"]) > 0

    torch.manual_seed(0)
    half = make_trainer(tmp_path, max_epochs=1)
    half.fit(first, datamodule=TinyDataModule(4))
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = module_on(source)
    make_trainer(tmp_path, max_epochs=2).fit(
        resumed, datamodule=TinyDataModule(4), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for name, weight in adapters(whole.network).items():
        torch.testing.assert_close(adapters(resumed.network)[name], weight)

    expected = whole.network.eval()(input_ids=IDS).logits
    save_pretrained(whole.network, tokenizer, tmp_path / "export")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert not is_quantized(exported)
    torch.testing.assert_close(exported(input_ids=IDS).logits, expected, rtol=0, atol=1e-5 if kind == "nf4" else 3e-2)
    assert is_quantized(whole.network)
