"""Weight soups: the average of models that mean the same by their weights, and of no others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from tests.conftest import make_network, make_tokenizer


@pytest.fixture
def folders(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Three networks of other seeds, with their tokenizers."""
    places = [tmp_path / name for name in ("first", "second", "third")]
    for seed, place in enumerate(places):
        make_network(len(tokenizer), seed).save_pretrained(place)
        tokenizer.save_pretrained(place)
    return list(map(str, places))


def weights(source: PretrainedNetwork) -> Mapping[str, Tensor]:
    return source.load_network().state_dict()


def test_every_weight_is_the_mean(folders: list[str]) -> None:
    parts = [weights(PretrainedNetwork(folder)) for folder in folders]
    network = PretrainedNetwork(folders[0], soup=folders[1:]).load_network()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, torch.stack([part[name] for part in parts]).mean(dim=0))
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight  # type: ignore[operator]
    assert network.training


def test_the_mean_of_one_model_is_that_model(folders: list[str]) -> None:
    alone, soup = weights(PretrainedNetwork(folders[0])), weights(PretrainedNetwork(folders[0], soup=[folders[0]] * 6))
    assert all(torch.equal(value, soup[name]) for name, value in alone.items())


def test_a_lower_precision_rounds_the_mean_once(folders: list[str]) -> None:
    exact = weights(PretrainedNetwork(folders[0], soup=folders[1:]))
    low = PretrainedNetwork(folders[0], soup=folders[1:], lora=LoraSettings(r=2), dtype="bfloat16").load_network()
    found = {name.removeprefix("base_model.model.").replace(".base_layer", ""): v for name, v in low.named_parameters()}
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(found[name], exact[name].bfloat16())


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, **settings: Any) -> str:
    config = LlamaConfig(**(make_network(len(tokenizer)).config.to_dict() | settings))
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"intermediate_size": 48}, "intermediate_size is 48"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps is 0.001"),  # of the same shapes, and another function
    ],
)
def test_another_architecture_is_refused(
    folders: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    other = save(tmp_path / "other", tokenizer, **settings)
    with pytest.raises(MisconfigurationError, match=f"averages models of one architecture, and {named} in '{other}'"):
        PretrainedNetwork(folders[0], soup=[other]).load_network()


def test_another_class_is_refused(folders: list[str], tmp_path: Path) -> None:
    BertLMHeadModel(
        BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, is_decoder=True)
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(MisconfigurationError, match="architecture is 'BertLMHeadModel'"):
        PretrainedNetwork(folders[0], soup=[str(tmp_path / "bert")]).load_network()


def test_another_tokenizer_is_refused(folders: list[str]) -> None:
    other = make_tokenizer()
    other.add_tokens(["quite"])
    other.save_pretrained(folders[2])
    assert PretrainedNetwork(folders[0], soup=[folders[1]]).load_tokenizer().bos_token == "<bos>"
    with pytest.raises(MisconfigurationError, match=f"the tokenizer of '{folders[2]}' has other tokens"):
        PretrainedNetwork(folders[0], soup=folders[1:]).load_tokenizer()
    assert PretrainedNetwork(folders[0], soup=folders[1:], tokenizer=folders[0]).load_tokenizer().bos_token == "<bos>"


@pytest.mark.parametrize(
    "settings", [{"adapter": "x"}, {"random_weights": True}, {"quantization": "nf4", "lora": LoraSettings()}]
)
def test_settings_that_are_about_other_weights(folders: list[str], settings: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationError, match=rf"network\.{next(iter(settings))} is about others"):
        PretrainedNetwork(folders[0], soup=folders[1:], **settings).load_network()


def test_a_model_that_is_not_there(folders: list[str], tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"nowhere' does not exist"):
        PretrainedNetwork(folders[0], soup=[str(tmp_path / "nowhere")]).load_network()
