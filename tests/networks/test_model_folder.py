"""Model folders are data: of what could run in one, nothing does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks import loading
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork, load_tokenizer
from soul_lightning.scoring.toxicity import ClassifierToxicityScorer


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.fixture
def adapter(model_folder: Path, tmp_path: Path) -> Path:
    network: Any = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2)).load_network()
    network.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pickled_instead(folder: Path, safe: str, name: str, canary: Path) -> None:
    (folder / safe).unlink()
    torch.save({"weight": Touches(canary)}, folder / name)


def test_the_pickle_would_run(tmp_path: Path, canary: Path) -> None:
    """Else the tests below would prove nothing."""
    torch.save(Touches(canary), tmp_path / "weights.bin")
    torch.load(tmp_path / "weights.bin", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused(model_folder: Path, canary: Path, name: str) -> None:
    pickled_instead(model_folder, "model.safetensors", name, canary)
    with pytest.raises(MisconfigurationError, match=rf"are pickled \({name}\).*save_pretrained.*writes safetensors"):
        PretrainedNetwork(str(model_folder)).load_network()
    assert not canary.exists()
    assert load_tokenizer(str(model_folder)).bos_token == "<bos>"


def test_pickles_beside_safetensors_are_left_alone(model_folder: Path, canary: Path) -> None:
    torch.save({"weight": Touches(canary)}, model_folder / "pytorch_model.bin")
    torch.save({"weight": Touches(canary)}, model_folder / "training_args.bin")
    assert PretrainedNetwork(str(model_folder)).load_network().training
    assert not canary.exists()


def test_pickled_adapters_are_refused(model_folder: Path, adapter: Path, canary: Path) -> None:
    pickled_instead(adapter, "adapter_model.safetensors", "adapter_model.bin", canary)
    with pytest.raises(MisconfigurationError, match=r"adapter_model.bin.*PeftModel"):
        PretrainedNetwork(str(model_folder), adapter=str(adapter)).load_network()
    for name in ("adapter_config.json", "adapter_model.bin"):  # transformers loads an adapter that lies in a model
        shutil.copyfile(adapter / name, model_folder / name)
    with pytest.raises(MisconfigurationError, match=r"adapter_model.bin"):
        PretrainedNetwork(str(model_folder)).load_network()
    assert not canary.exists()


def test_of_an_adapter_on_the_hub_no_pickle_is_fetched(
    model_folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(adapter)

    monkeypatch.setattr(loading, "snapshot_download", fetch)
    assert PretrainedNetwork(str(model_folder), adapter="owner/adapter").load_network().training
    assert asked == [("owner/adapter", ["adapter_config.json", "*.safetensors"])]


def test_an_adapter_that_cannot_be_fetched_is_named(model_folder: Path) -> None:
    with pytest.raises(MisconfigurationError, match="no adapter can be fetched from 'nobody/nothing'"):
        PretrainedNetwork(str(model_folder), adapter="nobody/nothing").load_network()


def with_own_code(folder: Path, canary: Path, **config: object) -> None:
    """Python code that writes the canary when it is imported."""
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    change_json(folder / "config.json", auto_map=names, **config)


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies the code of models."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def test_code_of_a_model_runs_only_when_it_is_asked_for(model_folder: Path, canary: Path, own_modules: None) -> None:
    with_own_code(model_folder, canary, model_type="own")
    with pytest.raises(MisconfigurationError, match=r"needs the Python code .*network.trust_remote_code"):
        PretrainedNetwork(str(model_folder)).load_network()
    with pytest.raises(MisconfigurationError, match=r"needs the Python code"):
        PretrainedNetwork(str(model_folder), random_weights=True).load_network()
    assert not canary.exists()
    assert type(PretrainedNetwork(str(model_folder), trust_remote_code=True).load_network()).__name__ == "OwnModel"
    assert canary.exists()


def test_code_of_a_model_is_left_alone_where_transformers_has_a_class(model_folder: Path, canary: Path) -> None:
    with_own_code(model_folder, canary)
    assert type(PretrainedNetwork(str(model_folder)).load_network()).__name__ == "LlamaForCausalLM"
    assert not canary.exists()


def test_code_of_a_tokenizer_is_refused(model_folder: Path, canary: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (model_folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    change_json(
        model_folder / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]}
    )
    change_json(model_folder / "config.json", model_type="own")
    with pytest.raises(MisconfigurationError, match=r"needs the Python code"):
        load_tokenizer(str(model_folder))
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/model.safetensors", "sub/model.safetensors"])
def test_an_index_names_no_file_elsewhere(model_folder: Path, name: str) -> None:
    index = {"metadata": {}, "weight_map": {"model.norm.weight": name}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MisconfigurationError, match=rf"names the file '{name}', which does not lie beside it"):
        PretrainedNetwork(str(model_folder)).load_network()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_no_kernel_is_fetched(model_folder: Path, key: str) -> None:
    change_json(model_folder / "config.json", **{key: "owner/kernel"})
    with pytest.raises(MisconfigurationError, match=r"kernel 'owner/kernel'.*sdpa or eager"):
        PretrainedNetwork(str(model_folder)).load_network()


def test_no_kernel_is_fetched_for_the_setting_either(model_folder: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"kernel 'owner/kernel'"):
        PretrainedNetwork(str(model_folder), attn_implementation="owner/kernel").load_network()
    assert PretrainedNetwork(str(model_folder), attn_implementation="eager").load_network().training


def test_classifiers_are_held_to_the_same(model_folder: Path, canary: Path) -> None:
    pickled_instead(model_folder, "model.safetensors", "pytorch_model.bin", canary)
    with pytest.raises(MisconfigurationError, match="are pickled"):
        ClassifierToxicityScorer(str(model_folder))(["a text"])
    assert not canary.exists()
