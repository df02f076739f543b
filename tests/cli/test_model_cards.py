"""What an export holds: weights, tokenizer and a card; the same card every time, and nothing of the data in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from tests.cli.conftest import Run, write_yaml
from tests.conftest import FORGET, RETAIN

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
}
ADAPTER_FILES = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_an_export_holds_no_optimizer_state_and_a_card(run: Run, recipe: Path, tmp_path: Path) -> None:
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "r").code == 0
    assert files(tmp_path / "r" / "export") == FILES
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "r" / "export").state_dict()
    assert not [name for name in weights if "curvature" in name or "exp_avg" in name]
    card = (tmp_path / "r" / "export" / "README.md").read_text()
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    for name, value in summary["data_hashes"].items():
        assert f"| {name} | {value} |" in card
    assert f"| train/forget_loss | {summary['train/forget_loss']:.6g} |" in card
    assert "soul_lightning.objectives.NPO" in card and "rho: 0.04" in card
    assert str(tmp_path) not in card and "base_model" not in card
    for prompt, answer in (*FORGET, *RETAIN):
        assert prompt not in card and f" {answer}" not in card


def test_two_runs_have_one_card(run: Run, recipe: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("fit", "--config", recipe, "--trainer.default_root_dir", name).code == 0
    first, second = ((tmp_path / name / "export" / "README.md").read_bytes() for name in ("one", "two"))
    assert first == second


def test_cards_of_copies_checkpoints_and_the_callback(run: Run, config: dict[str, Any], tmp_path: Path) -> None:
    config["trainer"]["callbacks"] = [{"class_path": "HuggingFaceExport", "init_args": {"folder": "other"}}]
    recipe = write_yaml(tmp_path / "tiny.yaml", config)
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "r", "--checkpoint.keep", "true").code == 0
    (checkpoint,) = tmp_path.glob("r/checkpoints/*.ckpt")
    assert run("export", "r", "copy").code == 0
    assert run("export", checkpoint, "from-checkpoint").code == 0
    own = (tmp_path / "r" / "export" / "README.md").read_text()
    assert (tmp_path / "copy" / "README.md").read_text() == own
    for folder in (tmp_path / "r" / "other", tmp_path / "from-checkpoint"):
        assert files(folder) == FILES
        card = (folder / "README.md").read_text()
        assert str(tmp_path) not in card
        assert own.split("## Recipe")[1].split("## Metrics")[0].strip() in card
    assert "| train/forget_loss |" in (tmp_path / "r" / "other" / "README.md").read_text()
    assert "## Metrics" not in (tmp_path / "from-checkpoint" / "README.md").read_text()


def test_adapters_alone_have_this_card_and_not_that_of_peft(run: Run, recipe: Path, tmp_path: Path) -> None:
    lora = ["--model.network.lora.r", "2", "--model.network.lora.merge_when_saved", "false"]
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "r", *lora).code == 0
    assert files(tmp_path / "r" / "export") == ADAPTER_FILES
    card = (tmp_path / "r" / "export" / "README.md").read_text()
    assert "# A model trained with soul-lightning" in card and str(tmp_path) not in card


def test_a_card_that_cannot_be_written_leaves_no_export(
    run: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_text

    def fails(path: Path, *args: Any, **kwargs: Any) -> int:
        if path.name == "README.md":
            raise OSError("no space left")
        return written(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(OSError, match="no space left"):
        run("fit", "--config", recipe, "--trainer.default_root_dir", "r")
    assert not [path for path in (tmp_path / "r").iterdir() if "export" in path.name]
