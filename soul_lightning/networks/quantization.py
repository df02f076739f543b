"""Frozen weights in 4 or 8 bits under LoRA adapters (QLoRA, Dettmers et al. 2023)."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel
from transformers.utils.import_utils import is_bitsandbytes_available

from soul_lightning.exceptions import MisconfigurationError

QuantizationName = Literal["nf4", "int8"]
"""`nf4`: 4-bit NormalFloat with double quantization, about 4.1 bits a weight. `int8`: LLM.int8(), 8 bits a weight."""


def quantization_settings(kind: QuantizationName, compute_dtype: torch.dtype) -> dict[str, Any]:
    """What `from_pretrained` must be told.

    Args:
        kind: How weights are rounded.
        compute_dtype: What 4-bit weights are turned to where they are multiplied.

    Raises:
        MisconfigurationError: bitsandbytes is not installed.
    """
    if not is_bitsandbytes_available():
        raise MisconfigurationError(
            f"network.quantization {kind} needs the package bitsandbytes; "
            f"install it with pip install 'soul-lightning[qlora]'"
        )
    # It says at every layer of every 8-bit pass that it casts, and at import which kernel is not there.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if kind == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    }


def is_quantized(network: nn.Module) -> bool:
    """Whether some of the weights are rounded to 4 or 8 bits."""
    return any(getattr(module, "is_quantized", False) for module in network.modules())


def prepared_for_training(network: PreTrainedModel) -> PreTrainedModel:
    """Freeze every weight, and turn what is not rounded (norms, embeddings, the head) to float32.

    PEFT's function would turn on gradient checkpointing as well, which is `network.gradient_checkpointing`'s to say.
    """
    from peft import prepare_model_for_kbit_training

    keep_differentiable(network)
    prepare: Callable[..., PreTrainedModel] = prepare_model_for_kbit_training
    return prepare(network, use_gradient_checkpointing=False)


def keep_differentiable(network: nn.Module) -> None:
    """Keep 4-bit layers as they are when the network runs in evaluation mode; of other layers nothing changes.

    On processors with AVX512-BF16 bitsandbytes would repack their weights in place at the first such pass, for kernels
    that no gradient goes back through: after a reference or an evaluation training would stand still.
    """
    module: Any
    for module in network.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # a 4-bit layer
            module.support_avx512bf16_for_cpu = False
            module.register_load_state_dict_pre_hook(_leave_scales_alone)


def _leave_scales_alone(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A 4-bit layer saves its scales and refuses to load them; they are there already, frozen like the weights."""
    for name in [name for name in state if name.startswith(f"{prefix}weight.")]:
        del state[name]


def dequantized_and_merged(network: nn.Module) -> nn.Module:
    """A copy in which the rounded weights are ordinary ones and the adapters are added to them.

    It says what the trained network says. Merged the other way round, the sums would be rounded once more.

    Args:
        network: LoRA adapters around a quantized model; stays as it is.
    """
    from peft import PeftModel

    assert isinstance(network, PeftModel)
    bare: PreTrainedModel = copy.deepcopy(network).unload()
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        merged: nn.Module = PeftModel.from_pretrained(bare.dequantize(), folder).merge_and_unload()
    return merged
