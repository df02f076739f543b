"""`fit` with rounded weights: short names stay short, the estimate is shown, and the export is an ordinary model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from tests.cli.conftest import Run, write_yaml


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "Lion", "bitsandbytes.optim.AdamW8bit"])
def test_qlora_from_a_recipe(run: Run, config: dict[str, Any], tmp_path: Path, optimizer: str) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    model = config["model"]["init_args"]
    model |= {"optimizer": {"class_path": optimizer, "init_args": {"lr": 1e-3}}, "curvature": None}
    model["network"] |= {"lora": {"r": 2}, "quantization": "nf4", "gradient_checkpointing": True}
    outcome = run("fit", "--config", write_yaml(tmp_path / "qlora.yaml", config), "--json")
    assert outcome.code == 0, outcome.err
    assert "memory    about " in outcome.err and "optimizer states " in outcome.err
    exported = AutoModelForCausalLM.from_pretrained(Path(json.loads(outcome.out)["run"]) / "export")
    assert getattr(exported.config, "quantization_config", None) is None


def test_a_mistake_is_one_sentence(run: Run, config: dict[str, Any], tmp_path: Path) -> None:
    config["model"]["init_args"]["network"]["quantization"] = "nf4"
    outcome = run("fit", "--config", write_yaml(tmp_path / "full.yaml", config))
    assert outcome.code == 2
    assert outcome.error == (
        "error: network.quantization nf4 rounds the weights, which then cannot train; set network.lora, or leave it out"
    )
    assert not (tmp_path / "runs").exists()
