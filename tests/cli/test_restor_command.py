"""`restor`: stages run, are reused, and end in one comparison."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
import yaml
from safetensors.torch import load_file

from soul_lightning.cli.comparing import known_facts
from soul_lightning.cli.fitting import FitResult, fit
from soul_lightning.cli.stages import filled, merged, override, parse_config, references
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.base import StreamModule
from soul_lightning.scoring.answers import AnswerRow, read_rows
from tests.cli.conftest import Run, write_yaml


def finetuning(start: str, lr: float, streams: dict[str, float]) -> dict[str, Any]:
    """A stage that learns streams."""
    settings = {"network": {"pretrained_model_name_or_path": start}, "streams": streams}
    optimizer = {"class_path": "AdamW", "init_args": {"lr": lr}}
    return {"model": {"class_path": "FinetuningModule", "init_args": {**settings, "optimizer": optimizer}}}


@pytest.fixture
def story(model_folder: Path) -> dict[str, Any]:
    """A clean model is told false things, then one way back."""
    return {
        "seeds": [0, 1],
        "fit": {
            "data": {"class_path": "tests.conftest.TinyDataModule", "init_args": {"batch_size": 2, "seed": "${seed}"}},
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        },
        "stages": {
            "clean": {"pretrained": str(model_folder)},
            "corrupted": finetuning("stage:clean", 1e-2, {"forget": 1.0, "retain": 1.0}),
            "retain-only": finetuning("stage:corrupted", 1e-3, {"retain": 1.0}),
        },
        "restoration": {"max_new_tokens": 3},
    }


def test_stages_run_once_and_are_reused(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    outcome = run("restor", "--config", recipe, "--output", "out")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(": training") == 4
    assert "corrupted" in outcome.out
    assert "comparison.csv" in outcome.out
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "config.yaml", "summary.json", "comparison.csv", "comparison.png", "seed0", "seed1",
    }  # fmt: skip
    assert (out / "seed1" / "retain-only" / "export" / "model.safetensors").is_file()
    rows = read_rows(out / "seed0" / "corrupted" / "rows" / "restoration_unlearned.jsonl")
    assert {row.probe for row in rows} == {"corrupted", "control"}
    with (out / "comparison.csv").open() as file:
        assert [record["model"] for record in csv.DictReader(file)] == ["clean", "corrupted", "retain-only"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    assert "retain-only/false_share" in summary
    stage = json.loads((out / "seed1" / "corrupted" / "summary.json").read_text())
    assert stage["seed"] == 1
    assert yaml.safe_load((out / "seed1" / "corrupted" / "config.yaml").read_text())["trainer"]["devices"] == 1

    again = run("restor", "--config", recipe, "--output", "out", "--json")
    assert again.code == 0, again.err
    assert ": training" not in again.err
    assert "asking" not in again.err
    assert again.err.count("reused from") == 4
    before, after = summary, json.loads(again.out)
    assert after["retain-only/accuracy_corrupted"] == before["retain-only/accuracy_corrupted"]

    changed = run("restor", "--config", recipe, "--output", "out", "--stages.retain-only.trainer.max_epochs", "2")
    assert changed.code == 0, changed.err
    assert changed.err.count(": training") == 2
    upstream = run(
        "restor", "--config", recipe, "--output", "out", "--stages.corrupted.trainer.max_epochs=2", "--seeds", "[0]"
    )
    assert upstream.err.count(": training") == 2


def test_a_stage_s_model_is_gone_before_the_next_is_made(
    run: Run, story: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: WeakSet[StreamModule] = WeakSet()
    counts = []
    prepare = StreamModule.setup

    def setup(self: StreamModule, stage: str) -> None:
        alive.add(self)
        prepare(self, stage)

    def counting(*given: Any, **settings: Any) -> FitResult:
        counts.append(len(alive))
        return fit(*given, **settings)

    monkeypatch.setattr(StreamModule, "setup", setup)
    monkeypatch.setattr("soul_lightning.cli.stage_runner.fit", counting)
    assert run("restor", "--config", write_yaml(tmp_path / "story.yaml", story), "--output", "out").code == 0
    assert len(counts) > 2 and not any(counts)


def test_a_shared_stage_is_made_once_and_asked_for_every_seed(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    start = story["stages"]["clean"]["pretrained"]
    story["stages"]["clean"] = {"shared": True, **finetuning(start, 1e-3, {"retain": 1.0})}
    outcome = run("restor", "--config", write_yaml(tmp_path / "story.yaml", story), "--output", "out")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("clean, seed 0: training") == 1
    assert "clean, seed 1: training" not in outcome.err
    assert (tmp_path / "out" / "shared" / "clean" / "export").is_dir()
    assert (tmp_path / "out" / "seed1" / "clean" / "rows" / "restoration_unlearned.jsonl").is_file()


def test_a_mistake_in_the_last_stage_is_found_before_the_first(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    for args, said in (
        (
            ("--stages.retain-only.model.init_args.stream", "x"),
            "stage retain-only: model: option 'stream' is not accepted",
        ),
        (("--stages.retain.model", "x"), "there is no stage 'retain' (did you mean retain-only?)"),
        (("--fitt.data", "x"), "no key 'fitt' (did you mean fit?)"),
        (("--seeds", "0"), "seeds must be a list"),
        (("--seeds", "[0, 0]"), "list of different whole numbers"),
        (("--seeds", "[0"), "--seeds: '[0' is no YAML"),
        (("--stages", "{../up: {pretrained: x}}"), "a stage cannot be called '../up'"),
        (("--table.baseline", "npo"), "table.baseline is 'npo'"),
        (("--restoration.max_tokens", "3"), "restoration has no key 'max_tokens'"),
        (("--stages.clean.pretrained", "./nowhere"), "stage clean: the model folder './nowhere' does not exist"),
    ):
        outcome = run("restor", "--config", recipe, *args)
        assert outcome.code == 2
        assert outcome.error.startswith("error: "), outcome.err
        assert said in outcome.error
        assert ": training" not in outcome.err
    assert not (tmp_path / "runs").exists()


def test_an_output_folder_of_another_command_is_refused(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("model: {}\n")
    outcome = run("restor", "--config", write_yaml(tmp_path / "story.yaml", story), "--output", "out")
    assert outcome.code == 2
    assert "already holds another run" in outcome.err
    assert "--ckpt_path" not in outcome.err


def test_overrides_are_yaml_and_leave_the_recipe_alone() -> None:
    config = {"fit": {"data": {"a": 1}}}
    changed = override(config, ["--fit.data.lr", "1e-5", "--seeds=[0, 1]", "--stages.clean.pretrained", "here"])
    assert changed == {
        "fit": {"data": {"a": 1, "lr": 1e-5}},
        "seeds": [0, 1],
        "stages": {"clean": {"pretrained": "here"}},
    }
    assert config == {"fit": {"data": {"a": 1}}}
    for arguments in (["--seeds"], ["seeds", "0"], ["--fit.data.a.b", "1"]):
        with pytest.raises(MisconfigurationError):
            override(config, arguments)


def test_another_class_takes_no_settings_of_the_class_below() -> None:
    base = {"optimizer": {"class_path": "Sophia", "init_args": {"lr": 1, "rho": 2}}, "callbacks": [1]}
    assert merged(base, {"optimizer": {"init_args": {"lr": 3}}})["optimizer"]["init_args"] == {"lr": 3, "rho": 2}
    other = {"optimizer": {"class_path": "AdamW", "init_args": {"lr": 3}}, "callbacks": [2]}
    assert merged(base, other) == other


def test_placeholders_and_references() -> None:
    config = {"a": "stage:clean", "b": ["${seed}", "x-${seed}"], "c": 1}
    assert references(config) == {"clean"}
    assert filled(config, 3, {"clean": "/models/clean"}) == {"a": "/models/clean", "b": [3, "x-3"], "c": 1}


def test_a_stage_that_is_null_is_left_out(story: dict[str, Any]) -> None:
    story["stages"]["other"] = None
    assert [stage.name for stage in parse_config(story).stages] == ["clean", "corrupted", "retain-only"]
    with pytest.raises(MisconfigurationError, match="'corrupted', and there is no such stage"):
        parse_config(override(story, ["--stages.corrupted", "null", "--stages.retain-only", "null"]))


def test_stages_refer_to_earlier_ones_only(story: dict[str, Any]) -> None:
    story["stages"]["early"] = finetuning("stage:late", 1e-3, {"retain": 1.0})
    with pytest.raises(MisconfigurationError, match="no stage before it"):
        parse_config(story)


def test_known_facts_are_those_of_the_clean_model() -> None:
    def row(model: str, index: int, true: bool, role: str = "corrupted") -> AnswerRow:
        return AnswerRow(model, role, role, index, "", "", "", "", "", true, False, "")

    rows = {
        "clean": [row("clean", 0, True), row("clean", 1, False), row("clean", 0, False, "control")],
        "corrupted": [row("corrupted", 0, False), row("corrupted", 1, True), row("corrupted", 0, True, "control")],
    }
    known = known_facts(rows, "clean")
    assert known is not None
    assert [(answer.role, answer.index) for answer in known["corrupted"]] == [("corrupted", 0), ("control", 0)]
    assert known_facts({"clean": [row("clean", 0, False)]}, "clean") is None


def test_a_soup_of_stages_is_their_average(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    story["seeds"] = [0]
    story["stages"]["other"] = finetuning("stage:corrupted", 1e-2, {"retain": 1.0})
    still = finetuning("stage:retain-only", 0.0, {"retain": 1.0})
    init = still["model"]["init_args"]
    init["network"]["soup"] = ["stage:other"]
    init["optimizer"] = {"class_path": "SGD", "init_args": {"lr": 0.0}}
    story["stages"]["soup"] = {"trainer": {"max_steps": 1}, **still}
    recipe = write_yaml(tmp_path / "story.yaml", story)
    outcome = run("restor", "--config", recipe, "--output", "out")
    assert outcome.code == 0, outcome.err

    def weights(stage: str) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / "out" / "seed0" / stage / "export" / "model.safetensors")

    first, second, soup = weights("retain-only"), weights("other"), weights("soup")
    for name, value in soup.items():
        torch.testing.assert_close(value, (first[name] + second[name]) / 2)
    again = run("restor", "--config", recipe, "--output", "out", "--stages.other.trainer.max_epochs", "2")
    assert again.code == 0, again.err
    assert again.err.count(": training") == 2  # the ingredient, and the soup of it
    assert any(not torch.equal(value, soup[name]) for name, value in weights("soup").items())
