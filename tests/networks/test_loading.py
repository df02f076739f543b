from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW
from transformers import PreTrainedTokenizerFast

from soul_lightning import UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork, load_tokenizer, resolve_source
from soul_lightning.objectives import NPO, CrossEntropy
from tests.conftest import TinyDataModule, make_network, make_trainer


def test_a_folder_loads_in_training_mode(model_folder: Path) -> None:
    source = PretrainedNetwork(str(model_folder))
    network = source.load_network()
    assert network.training
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert source.load_tokenizer().bos_token == "<bos>"


def test_lora_trains_the_adapters_alone_and_starts_at_the_model(model_folder: Path) -> None:
    plain = PretrainedNetwork(str(model_folder)).load_network()
    adapted = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2)).load_network()
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trainable and all("lora_" in name for name in trainable)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(adapted(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_a_starting_adapter_is_part_of_the_model(model_folder: Path, tmp_path: Path) -> None:
    adapted = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2)).load_network()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    adapted.save_pretrained(tmp_path / "adapter")  # type: ignore[operator]
    ids = torch.tensor([[5, 6, 7]])
    expected = adapted.eval()(input_ids=ids).logits
    merged = PretrainedNetwork(str(model_folder), adapter=str(tmp_path / "adapter")).load_network().eval()
    torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_adapters_on_frozen_bfloat16_weights_train_in_float32(model_folder: Path, tmp_path: Path) -> None:
    source = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2), dtype="bfloat16")
    module = UnlearningModule(source, NPO(0.5), CrossEntropy(), optimizer=partial(AdamW, lr=1e-3))
    frozen = {name: p.clone() for name, p in source.load_network().named_parameters() if not p.requires_grad}
    make_trainer(tmp_path, max_epochs=2).fit(module, datamodule=TinyDataModule(4))
    for name, parameter in module.network.named_parameters():
        assert parameter.dtype == (torch.float32 if parameter.requires_grad else torch.bfloat16)
        assert parameter.requires_grad or torch.equal(parameter, frozen[name])
        if "lora_B" in name:  # 0 before training, and then not what bfloat16 can hold
            assert not torch.equal(parameter, parameter.bfloat16().float())


def test_a_padding_token_is_made_up_for(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>")
    bare.save_pretrained(tmp_path / "bare")
    assert load_tokenizer(str(tmp_path / "bare")).pad_token == "<eos>"


def test_mistakes_are_named(tmp_path: Path, model_folder: Path) -> None:
    make_network(8).save_pretrained(tmp_path / "mute")
    with pytest.raises(MisconfigurationError, match=r"no tokenizer can be loaded from .*mute"):
        PretrainedNetwork(str(tmp_path / "mute")).load_tokenizer()
    with pytest.raises(MisconfigurationError, match="does not exist"):
        PretrainedNetwork(str(tmp_path / "nowhere")).load_network()
    (tmp_path / "empty").mkdir()
    with pytest.raises(MisconfigurationError, match="holds no Hugging Face model"):
        resolve_source(str(tmp_path / "empty"))
    with pytest.raises(MisconfigurationError, match="no packaged model is called 'nothing/here'"):
        resolve_source("packaged:nothing/here")
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(MisconfigurationError, match="no causal language model can be loaded"):
        PretrainedNetwork(str(broken)).load_network()


def test_a_name_that_is_neither_folder_nor_hub_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MisconfigurationError, match=r"^there is no folder 'modle', .* check the path or the name$"):
        load_tokenizer("modle")
