"""`fit`: what a run leaves behind, and that a mistake leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only
from transformers import AutoModelForCausalLM, AutoTokenizer

from soul_lightning.cli import fitting
from soul_lightning.cli.main import main
from soul_lightning.run_folder import discarded_unless
from tests.cli.conftest import Outcome, Run, write_rows, write_yaml
from tests.conftest import FORGET


def only_run(folder: Path) -> Path:
    """The one run under `runs/`."""
    (path,) = folder.glob("runs/*/*")
    return path


def test_run_folder_and_summary(run: Run, recipe: Path, tmp_path: Path) -> None:
    outcome = run("fit", "--config", recipe)
    assert outcome.code == 0, outcome.err
    folder = only_run(tmp_path)
    assert folder.parent.name == "tiny"
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    assert names == {"config", "summary", "export", "events", "final"}
    assert str(folder.relative_to(tmp_path)) in outcome.out
    assert "tensorboard --logdir" in outcome.out

    summary = json.loads((folder / "summary.json").read_text())
    assert summary["recipe"] == "tiny"
    assert summary["seed"] == 0
    assert summary["optimizer_steps"] == 6
    assert summary["seconds"] > 0
    assert summary["overlap/rows"] == summary["overlap/facts"] == 0
    assert summary["overlap/of_rows"] == 6
    assert {"soul_lightning", "torch", "lightning", "transformers", "python"} == set(summary["versions"])
    assert set(summary["data_hashes"]) >= {"stream/forget", "stream/retain"}
    assert summary["train/forget_loss"] > 0
    assert summary["curvature/norm"] > 0
    assert "step" not in summary

    stored = yaml.safe_load((folder / "config.yaml").read_text())
    assert stored["model"]["init_args"]["optimizer"]["init_args"]["rho"] == 0.04
    assert stored["trainer"]["log_every_n_steps"] == 1


def test_export_loads_with_the_weights_of_the_checkpoint(
    run: Run, recipe: Path, tmp_path: Path, model_folder: Path
) -> None:
    assert run("fit", "--config", recipe, "--checkpoint.keep", "true").code == 0
    folder = only_run(tmp_path)
    exported = AutoModelForCausalLM.from_pretrained(folder / "export").state_dict()
    assert AutoTokenizer.from_pretrained(folder / "export")("ada lives in")["input_ids"]
    assert {path.suffix for path in (folder / "export").iterdir()} == {".json", ".md", ".safetensors"}
    (checkpoint,) = folder.glob("checkpoints/*.ckpt")
    trained = torch.load(checkpoint, weights_only=True)["state_dict"]
    before = AutoModelForCausalLM.from_pretrained(model_folder).state_dict()
    key = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(exported[key], trained[f"network.{key}"])
    assert not torch.equal(exported[key], before[key])


def test_the_same_recipe_and_seed_give_the_same_numbers(run: Run, recipe: Path, tmp_path: Path) -> None:
    first, second = (json.loads(run("fit", "--config", recipe, "--json").out) for _ in range(2))
    assert first["run"] != second["run"]
    for key in ("train/loss", "recipe_hash", "data_hashes"):
        assert first[key] == second[key]
    other = json.loads(
        run("fit", "--config", recipe, "--seed_everything", "1", "--model.forget.beta", "0.2", "--json").out
    )
    assert other["seed"] == 1
    assert other["recipe_hash"] != first["recipe_hash"]


def test_json_is_the_only_thing_on_stdout(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "soul_lightning.cli", "fit", "--config", str(recipe), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    summary = json.loads(done.stdout)
    assert (tmp_path / summary["run"] / "summary.json").is_file()
    assert "epoch 2/2, 6 steps" in done.stderr
    assert "\x1b" not in done.stderr
    for chatter in ("GPU available", "workers", "Tip", "Seed set", "args parameter", "Warning"):
        assert chatter not in done.stderr


def test_only_the_first_process_says_where_the_results_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "fit", lambda *_args, **_settings: fitting.FitResult(Path("here"), {}, None))
    assert "here/summary.json" in run("fit", "--config", "quickstart").out
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for arguments in ((), ("--json",)):
        outcome = run("fit", "--config", "quickstart", *arguments)
        assert outcome.code == 0
        assert not outcome.out


def test_lora_is_merged_in_the_export(run: Run, recipe: Path, tmp_path: Path) -> None:
    outcome = run("fit", "--config", recipe, "--model.network.lora.r", "4", "--trainer.max_epochs", "1")
    assert outcome.code == 0, outcome.err
    names = {path.name for path in (only_run(tmp_path) / "export").iterdir()}
    assert "model.safetensors" in names
    assert not any("adapter" in name for name in names)


def test_overrides_and_short_names(run: Run, recipe: Path, tmp_path: Path) -> None:
    outcome = run(
        "fit", "--config", recipe, "--model.optimizer", "AdamW", "--model.optimizer.lr", "0.01",
        "--model.curvature", "null", "--trainer.max_epochs=1", "--trainer.default_root_dir", "here",
        "--export", "false",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    stored = yaml.safe_load((tmp_path / "here" / "config.yaml").read_text())
    assert stored["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.AdamW"
    assert stored["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01
    assert not (tmp_path / "here" / "export").exists()
    assert not (tmp_path / "runs").exists()


def test_an_optimizer_keeps_its_own_defaults(run: Run, recipe: Path) -> None:
    stored = yaml.safe_load(run("fit", "--config", recipe, "--print_config").out)
    assert stored["model"]["init_args"]["optimizer"]["init_args"]["weight_decay"] == 0.1
    assert stored["model"]["init_args"]["optimizer"]["init_args"]["eps"] == 1e-15


def test_class_help_passes_through(run: Run) -> None:
    outcome = run("fit", "--model.help", "UnlearningModule")
    assert outcome.code == 0
    assert "forget_weight" in outcome.out


def test_a_kept_checkpoint_is_trained_longer(run: Run, recipe: Path, tmp_path: Path) -> None:
    given = ("fit", "--config", recipe, "--trainer.default_root_dir", "here", "--checkpoint.keep", "true")
    assert run(*given, "--trainer.max_epochs", "1").code == 0
    again = run(*given, "--ckpt_path", "last")
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["optimizer_steps"] == 6
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "here" / "export")


def test_output_is_the_run_folder(run: Run, recipe: Path, tmp_path: Path) -> None:
    given = ("fit", "--config", recipe, "--export", "false", "--trainer.max_epochs", "1", "--output")
    assert run(*given, "mine").code == 0
    stored = yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())
    assert stored["trainer"]["default_root_dir"] == "mine" and not (tmp_path / "runs").exists()
    again = run(*given, "mine")
    assert again.code == 2 and "already holds another run" in again.error


def test_an_occupied_folder_is_refused_and_left_alone(run: Run, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "summary.json").write_text("{}")
    outcome = run("fit", "--config", recipe, "--trainer.default_root_dir", folder)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "already holds another run" in outcome.err
    assert "--ckpt_path" in outcome.err
    assert [path.name for path in folder.iterdir()] == ["summary.json"]


def change(config: dict[str, Any], dotted: str, value: object) -> None:
    """Set a dotted key."""
    *path, last = dotted.split(".")
    for key in path:
        config = config[key]
    config[last] = value


MODEL, DATA = "model.init_args", "data.init_args"
MISTAKES = [
    (f"{DATA}.forget", "nowhere.jsonl", "nowhere.jsonl"),
    (f"{DATA}.prompt_column", "question", "question"),
    (f"{DATA}.max_tokens", 2, "max_tokens=2"),
    (f"{DATA}.batch_size", 0, "batch_size"),
    (f"{DATA}.forgett", "x", "option 'forgett' is not accepted"),
    (f"{MODEL}.network.pretrained_model_name_or_path", "./nowhere", "./nowhere"),
    (f"{MODEL}.forget", "NPPO", "did you mean NPO"),
    (f"{MODEL}.forget.init_args.beta", "much", "model.forget.beta: expected float, got much"),
    (f"{MODEL}.forget.init_args.beta", -1, "beta must be above 0"),
    (f"{MODEL}.lr_scheduler.decay", "cos", "one of 'cosine', 'linear', 'constant'"),
    (f"{MODEL}.lr_scheduler.warmup_steps", -1, "warmup_steps must be >= 0"),
    (f"{MODEL}.micro_batches", 0, "micro_batches must be >= 1"),
    ("trainer.max_epochs", "x", "trainer.max_epochs: expected int, got x"),
    ("trainer.accelerator", "gpu", "gpu"),
    ("trainer.gradient_clip_val", 1.0, "set model.max_grad_norm"),
    ("trainer.accumulate_grad_batches", 2, "raise data.batch_size"),
    ("ckpt_path", "nowhere.ckpt", "nowhere.ckpt"),
]


@pytest.mark.parametrize(("key", "value", "said"), MISTAKES, ids=[f"{key}={value}" for key, value, _ in MISTAKES])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    run: Run, config: dict[str, Any], tmp_path: Path, key: str, value: object, said: str
) -> None:
    if key == "trainer.accelerator" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    change(config, key, value)
    outcome = run("fit", "--config", write_yaml(tmp_path / "tiny.yaml", config))
    assert_refused(outcome, said)
    assert not (tmp_path / "runs").exists()


def test_empty_forget_and_overlap(run: Run, config: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "tiny.yaml", config)
    write_rows(tmp_path / "retain.jsonl", FORGET)
    assert_refused(run("fit", "--config", recipe), "6 of 6 forget rows and 6 of 6 forget facts")
    write_rows(tmp_path / "forget.jsonl", [])
    assert_refused(run("fit", "--config", recipe), "forget")
    assert not (tmp_path / "runs").exists()


def test_model_folder_without_tokenizer_or_weights(run: Run, recipe: Path, model_folder: Path, tmp_path: Path) -> None:
    weights = (model_folder / "model.safetensors").rename(tmp_path / "weights")
    assert_refused(run("fit", "--config", recipe), "no causal language model can be loaded")
    weights.rename(model_folder / "model.safetensors")
    for path in model_folder.glob("token*"):
        path.unlink()
    assert_refused(run("fit", "--config", recipe), "tokenizer")
    assert not (tmp_path / "runs").exists()


def test_a_late_mistake_leaves_nothing_in_an_existing_folder(run: Run, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    outcome = run("fit", "--config", recipe, "--trainer.default_root_dir", folder, "--model.optimizer.lr=-1")
    assert outcome.code == 2
    assert outcome.error.startswith("error: Sophia: lr")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_no_recipe(run: Run) -> None:
    assert_refused(run("fit"), "--config")
    assert_refused(run("fit", "--trainer.max_epochs", "1"), "data, model")


def assert_refused(outcome: Outcome, said: str) -> None:
    """Exit code 2, one sentence on stderr, nothing on stdout."""
    assert outcome.code == 2, outcome.err
    assert said in outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert not outcome.out


def test_what_failed_is_discarded_with_the_folders_made_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a" / "b"
    for kept in (False, True):
        with pytest.raises(ValueError), discarded_unless(lambda: kept, folder):  # noqa: B023
            (folder / "rows").mkdir(parents=True)
            raise ValueError
        assert folder.exists() == kept
    assert (tmp_path / "runs").exists()


def test_recipe_of_a_run_runs_again(run: Run, recipe: Path, tmp_path: Path) -> None:
    assert run("fit", "--config", recipe, "--trainer.max_epochs", "1").code == 0
    assert main(["fit", "--config", str(only_run(tmp_path) / "config.yaml")]) == 0
    assert len(list(tmp_path.glob("runs/tiny/*"))) == 2


def test_the_name_of_a_recipe_file_leads_nowhere_else(run: Run, config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    outcome = run("fit", "--config", write_yaml(tmp_path / "inner" / "...yaml", config))
    assert outcome.code == 2
    assert "the recipe's name is '..'" in outcome.error
    assert not (tmp_path / "runs").exists()
