"""Loading a causal language model and its tokenizer from a folder, a hub name or the package itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.blocks import checkpoint_blocks, compile_blocks
from soul_lightning.networks.hub import refuse_unreachable
from soul_lightning.networks.model_folder import needs_own_code, refuse_unsafe_model
from soul_lightning.networks.quantization import QuantizationName, prepared_for_training, quantization_settings
from soul_lightning.networks.soup import average, refuse_other_tokenizer

PACKAGED_PREFIX = "packaged:"
"""Before the name of a model that ships inside the package: `packaged:tiny_world/corrupted`."""


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021) that train in place of the weights.

    Attributes:
        r: Rank.
        alpha: Scale; the adapter's product is multiplied by alpha / r.
        dropout: Dropout before the adapter.
        target_modules: Names or a regular expression of the linear layers; `all-linear` takes every one but the head.
        merge_when_saved: Fold the adapters into the weights when the model is exported.
    """

    r: int = 8
    alpha: int = 16
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    merge_when_saved: bool = True


@dataclass(frozen=True)
class PretrainedNetwork:
    """Where the model comes from and how it is loaded.

    Attributes:
        pretrained_model_name_or_path: A Hugging Face folder or hub name; `packaged:NAME` is a model of this package.
        tokenizer: Folder or name of the tokenizer, when it is not the model's own.
        adapter: A PEFT adapter folder that is merged into the weights first: the merged model is the one to unlearn,
            and the reference too.
        soup: Other models of the same architecture and tokenizer: the weights are the average of theirs and those of
            `pretrained_model_name_or_path`, all equal (a soup, Wortsman et al. 2022), and the average is the model to
            unlearn, and the reference too. They are read one at a time.
        lora: Train low-rank adapters in place of the weights. Adapters are float32, whatever `dtype` is.
        quantization: Round the frozen weights under `lora` to 4 (`nf4`) or 8 bits (`int8`): QLoRA.
        dtype: Precision of the weights. Those that train stay in float32 (see the Trainer's `precision`).
        random_weights: Take the architecture alone and start from random weights (the run's seed decides).
        gradient_checkpointing: Recompute activations in the backward pass, for less memory.
        compile: Compile each block with `torch.compile`, for speed after a slow first step.
        attn_implementation: Attention kernel (`sdpa`, `eager`, …); the model's default if none is given.
        trust_remote_code: Run Python code that comes with the model. Only for sources that you trust.
    """

    pretrained_model_name_or_path: str
    tokenizer: str | None = None
    adapter: str | None = None
    soup: list[str] | None = None
    lora: LoraSettings | None = None
    quantization: QuantizationName | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    random_weights: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False
    attn_implementation: str | None = None
    trust_remote_code: bool = False

    def load_network(self) -> nn.Module:
        """Load the model, merge the starting adapter, add LoRA; in training mode.

        Raises:
            MisconfigurationError: There is no model there, it cannot do what is asked of it, or loading it would run
                code that nobody asked for.
        """
        if self.quantization:
            self._refuse_unquantizable(self.quantization)
        if self.soup:
            self._refuse_other_weights()
        source = resolve_source(self.pretrained_model_name_or_path)
        network = self._read(source)
        if self.soup:
            average(network, (source, *map(resolve_source, self.soup)), self._read)
            network = network.to(getattr(torch, self.dtype))
        network = _merge_adapter(network, self.adapter) if self.adapter else network
        network = prepared_for_training(network) if self.quantization else network
        if self.gradient_checkpointing:
            checkpoint_blocks(network)
        trainable = _add_lora(network, self.lora) if self.lora else network
        if self.compile:
            compile_blocks(trainable)
        return trainable.train()

    def _read(self, source: str) -> PreTrainedModel:
        refuse_unreachable(source)
        refuse_unsafe_model(source, self.attn_implementation, trust_remote_code=self.trust_remote_code)
        try:
            return self._create(source)
        except (OSError, ValueError) as error:
            if needs_own_code(error):
                raise _untrusted(source) from error
            raise MisconfigurationError(
                f"no causal language model can be loaded from {source!r} ({_first_line(error)}); "
                f"give a folder with config.json and safetensors weights, or a hub name"
            ) from error

    def _refuse_unquantizable(self, quantization: QuantizationName) -> None:
        if self.lora is None:
            raise MisconfigurationError(
                f"network.quantization {quantization} rounds the weights, which then cannot train; set network.lora, "
                f"or leave it out"
            )
        if self.adapter or self.random_weights:
            what = "adapter" if self.adapter else "random_weights"
            raise MisconfigurationError(
                f"network.quantization {quantization} rounds the weights as they are read, and network.{what} changes "
                f"them afterwards; save the model that is meant, and quantize that"
            )

    def _refuse_other_weights(self) -> None:
        others = {"adapter": self.adapter, "random_weights": self.random_weights, "quantization": self.quantization}
        named = next((name for name, value in others.items() if value), None)
        if named is not None:
            raise MisconfigurationError(
                f"network.soup averages weights as they are saved, and network.{named} is about others; save the model "
                f"that is meant, and name that"
            )

    def _create(self, source: str) -> PreTrainedModel:
        settings: dict[str, Any] = {
            "dtype": torch.float32 if self.soup else getattr(torch, self.dtype),  # an average is rounded once
            "attn_implementation": self.attn_implementation,
            "trust_remote_code": self.trust_remote_code,
        }
        if self.random_weights:
            config = AutoConfig.from_pretrained(source, trust_remote_code=self.trust_remote_code)
            fresh: PreTrainedModel = AutoModelForCausalLM.from_config(config, **settings)
            return fresh
        if self.quantization:
            settings |= quantization_settings(self.quantization, settings["dtype"])
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, **settings)
        return loaded

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer; a missing padding token is the end-of-text token.

        Raises:
            MisconfigurationError: The folder holds none, or a soup's models have different ones.
        """
        name = self.tokenizer or self.pretrained_model_name_or_path
        tokenizer = load_tokenizer(name, trust_remote_code=self.trust_remote_code)
        for other in self.soup or () if self.tokenizer is None else ():
            refuse_other_tokenizer(
                name, tokenizer, other, load_tokenizer(other, trust_remote_code=self.trust_remote_code)
            )
        return tokenizer


def load_tokenizer(name_or_path: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder, a hub name or the package.

    Raises:
        MisconfigurationError: There is none.
    """
    source = resolve_source(name_or_path)
    refuse_unreachable(source)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if needs_own_code(error):
            raise _untrusted(source) from error
        if not Path(source).is_dir():
            raise MisconfigurationError(
                f"there is no folder {source!r}, and the hub gives no tokenizer of that name ({_first_line(error)}); "
                f"check the path or the name"
            ) from error
        # The library's own words name the classes that it tried.
        raise MisconfigurationError(
            f"no tokenizer can be loaded from {source!r}; save one there with tokenizer.save_pretrained, "
            f"or name another folder with network.tokenizer"
        ) from error
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise MisconfigurationError(
                f"the tokenizer of {source!r} has neither a padding nor an end-of-text token; set tokenizer.pad_token"
            )
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def resolve_source(name_or_path: str) -> str:
    """The folder of a packaged model, the folder itself, or a hub name as it is.

    Raises:
        MisconfigurationError: A path that does not exist, or an unknown packaged name.
    """
    if name_or_path.startswith(PACKAGED_PREFIX):
        name = name_or_path.removeprefix(PACKAGED_PREFIX)
        if name not in packaged_models():
            raise MisconfigurationError(
                f"no packaged model is called {name!r}; there are: {', '.join(packaged_models()) or 'none'}"
            )
        return str(Path(str(resources.files("soul_lightning.networks"))) / "packaged" / name)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not any((path / name).is_file() for name in ("config.json", "tokenizer_config.json", "adapter_config.json")):
            raise MisconfigurationError(
                f"the folder {str(path)!r} holds no Hugging Face model, tokenizer or adapter (no config.json); "
                f"check the path"
            )
        return str(path)
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise MisconfigurationError(f"the model folder {name_or_path!r} does not exist; check the path")
    return name_or_path


def packaged_models() -> list[str]:
    """Names of the models inside the package, without the prefix."""
    root = Path(str(resources.files("soul_lightning.networks"))) / "packaged"
    return sorted(str(config.parent.relative_to(root)) for config in root.glob("*/*/config.json"))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200].rstrip(".")


def _untrusted(source: str) -> MisconfigurationError:
    return MisconfigurationError(
        f"{source!r} needs the Python code that comes with it (auto_map), which is not run; choose a model that "
        f"transformers has a class for, or set network.trust_remote_code once you have read that code"
    )


def _merge_adapter(network: PreTrainedModel, adapter: str) -> PreTrainedModel:
    from peft import PeftModel

    source = resolve_source(adapter)
    if not Path(source).is_dir():  # PEFT would take pickled weights where the hub has no others
        try:
            source = snapshot_download(source, allow_patterns=["adapter_config.json", "*.safetensors"])
        except (OSError, ValueError) as error:
            raise MisconfigurationError(
                f"no adapter can be fetched from {adapter!r} ({_first_line(error)}); give a folder with "
                f"adapter_config.json and safetensors weights, or a hub name"
            ) from error
    refuse_unsafe_model(source)
    merged: PreTrainedModel = PeftModel.from_pretrained(network, source).merge_and_unload()
    return merged


def _add_lora(network: PreTrainedModel, settings: LoraSettings) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)
