"""Saving a network as a Hugging Face folder that `AutoModelForCausalLM` and `AutoTokenizer` load."""

from __future__ import annotations

import copy
import errno
import os
import re
from pathlib import Path
from typing import Protocol, runtime_checkable

from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.files import folder_replaced_when_written
from soul_lightning.networks.model_card import CARD_NAME
from soul_lightning.networks.quantization import dequantized_and_merged, is_quantized


@runtime_checkable
class _Saves(Protocol):
    def save_pretrained(self, save_directory: str) -> object: ...


@runtime_checkable
class _Merges(Protocol):
    def merge_and_unload(self) -> nn.Module: ...


def save_pretrained(
    network: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    merge_adapters: bool = True,
    replace: bool = False,
    card: str | None = None,
) -> None:
    """Save weights (safetensors), configuration and tokenizer; the network itself stays as it is.

    The folder appears only when it is complete.

    Args:
        network: A Hugging Face causal language model, with or without LoRA adapters around it.
        tokenizer: Its tokenizer.
        folder: Where to; must not exist, or be empty, unless `replace`.
        merge_adapters: Fold LoRA adapters into a copy of the weights, quantized ones into ordinary ones. Otherwise the
            adapters alone are saved.
        replace: An earlier export in `folder` makes room once the new one is complete.
        card: What stands in its README.md, see `model_card`; there is none if none is given.

    Raises:
        MisconfigurationError: The folder is not empty, or the network is no Hugging Face model.
        OSError: It cannot be written.
    """
    if not replace:
        refuse_filled(folder)
    whole = without_adapters(network) if merge_adapters else network
    if not isinstance(whole, _Saves):
        raise MisconfigurationError(
            f"a {type(network).__name__} cannot be exported, it has no save_pretrained; use a Hugging Face model"
        )
    with folder_replaced_when_written(folder) as temporary:
        try:
            whole.save_pretrained(str(temporary))
        except SafetensorError as error:  # this is how it says that the disk is full
            found = re.search(r"os error (\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number), str(folder)) from error
        tokenizer.save_pretrained(str(temporary))
        (temporary / CARD_NAME).unlink(missing_ok=True)  # PEFT's own, which names the model's local folder
        if card is not None:
            (temporary / CARD_NAME).write_text(card, encoding="utf-8")


def refuse_filled(folder: Path) -> None:
    """Check that an export may go into `folder`.

    Raises:
        MisconfigurationError: There is something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MisconfigurationError(f"{str(folder)!r} exists and is not empty; choose a new folder for the export")


def without_adapters(network: nn.Module) -> nn.Module:
    """What an export holds: LoRA adapters folded into a copy of the weights, quantized ones into ordinary ones.

    Args:
        network: Any network; stays as it is, and is returned where no adapters lie around it.
    """
    if isinstance(network, PreTrainedModel) or not isinstance(network, _Merges):
        return network
    if is_quantized(network):
        return dequantized_and_merged(network)
    return copy.deepcopy(network).merge_and_unload()
