"""`export`: from runs and checkpoints to a folder that transformers loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from soul_lightning.networks.loading import resolve_source
from tests.cli.conftest import Run


@pytest.mark.parametrize("lora", [False, True], ids=["weights", "lora"])
def test_run_and_checkpoint_give_the_same_model(run: Run, recipe: Path, tmp_path: Path, lora: bool) -> None:
    adapters = ["--model.network.lora.r", "4"] if lora else []
    given = ("--config", recipe, "--trainer.default_root_dir", "r", "--checkpoint.keep", "true", *adapters)
    assert run("fit", *given).code == 0
    (checkpoint,) = tmp_path.glob("r/checkpoints/*.ckpt")
    assert run("export", "r", "from-run").code == 0
    outcome = run("export", checkpoint, "from-checkpoint")
    assert outcome.code == 0, outcome.err
    assert "from-checkpoint" in outcome.out
    first, second = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("from-run", "from-checkpoint")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert AutoTokenizer.from_pretrained(tmp_path / "from-checkpoint").eos_token == "<eos>"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_run_without_an_export_uses_its_newest_checkpoint(run: Run, recipe: Path, tmp_path: Path) -> None:
    assert run("fit", "--config", recipe, "--trainer.default_root_dir", "r", "--export", "false").code == 0
    assert run("export", "r", "out").code == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_a_packaged_model_becomes_a_folder(run: Run, tmp_path: Path) -> None:
    assert run("export", "packaged:tiny_world/clean", "small").code == 0
    folder = Path(resolve_source("packaged:tiny_world/clean"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_mistakes_get_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "file").write_text("")
    (tmp_path / "broken.ckpt").write_text("no checkpoint")
    (tmp_path / "empty").mkdir()
    for args, said in (
        (("nowhere", "out"), "neither a run folder nor a checkpoint"),
        (("empty", "out"), "neither export/ nor checkpoints"),
        (("packaged:tiny_world/claen", "out"), "no packaged model is called 'tiny_world/claen'; there are: "),
        (("empty", "filled"), "is not empty"),
        (("broken.ckpt", "out"), "no config.yaml"),
        ((), "required"),
    ):
        outcome = run("export", *args)
        assert outcome.code == 2
        assert outcome.err.count("\n") == 1
        assert said in outcome.err
    assert not (tmp_path / "out").exists()
