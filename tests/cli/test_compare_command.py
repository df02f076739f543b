"""`compare`: rates are tuned on seeds of their own, runs are reused, and everything ends in one table."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from soul_lightning.cli import stage_jobs
from soul_lightning.cli.comparison_config import parse_comparison
from soul_lightning.cli.comparison_grid import check_comparison
from soul_lightning.cli.recipe_files import find_recipe, packaged_recipes
from soul_lightning.cli.stage_runner import StageRunner
from soul_lightning.cli.stages import override, read_yaml
from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.run_folder import write_summary
from soul_lightning.scoring.answers import read_rows
from tests.cli.conftest import Run, write_yaml
from tests.cli.test_restor_command import finetuning


@pytest.fixture
def grid(model_folder: Path) -> dict[str, Any]:
    """Two optimizers of one objective, two rates each, one seed to tune on and one to report."""
    module = {
        "network": {"pretrained_model_name_or_path": "stage:corrupted"},
        "retain": {"class_path": "CrossEntropy"},
        "retain_weight": 2.0,
    }
    return {
        "seeds": [0],
        "tuning_seeds": [7],
        "fit": {
            "data": {"class_path": "tests.conftest.TinyDataModule", "init_args": {"batch_size": 2, "seed": "${seed}"}},
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        },
        "stages": {
            "clean": {"pretrained": str(model_folder)},
            "corrupted": {
                **finetuning("stage:clean", 1e-2, {"forget": 1.0, "retain": 1.0}),
                "trainer": {"max_epochs": 15},  # enough to give true answers
            },
        },
        "model": {"class_path": "UnlearningModule", "init_args": module},
        "objectives": {"npo": {"forget": {"class_path": "NPO"}}},
        "optimizers": {
            "adamw": {"rates": [1e-4, 1e-3], "optimizer": {"class_path": "AdamW"}},
            "sign": {"rates": [1e-4, 1e-3], "max_grad_norm": None, "optimizer": {"class_path": "Lion"}},
        },
        "tuning": {"most_rates": 3},
        "restoration": {"max_new_tokens": 3},
    }


def records(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_rates_are_tuned_runs_are_reused_and_files_written(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    outcome = run("compare", "--config", recipe, "--output", "out")
    assert outcome.code == 0, outcome.err
    assert max(map(len, outcome.out.splitlines()[:12])) <= 80
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "config.yaml", "summary.json", "comparison.csv", "comparison.md", "comparison.png", "tuning.csv", "seed0",
        "seed7",
    }  # fmt: skip
    tuned = records(out / "tuning.csv")
    for name in ("adamw", "sign"):
        rates = [float(record["learning_rate"]) for record in tuned if record["optimizer"] == name]
        assert rates == sorted(rates)
        assert {1e-4, 1e-3} < set(rates)
    extended = [record for record in tuned if record["extends_the_grid"] == "true"]
    assert len(extended) == 2  # the best of two rates is always at an edge
    rows = {record["model"]: record for record in records(out / "comparison.csv")}
    assert list(rows) == ["clean", "corrupted", "npo-adamw", "npo-sign"]
    for name in ("adamw", "sign"):
        (chosen,) = [record for record in tuned if record["optimizer"] == name and record["chosen"] == "true"]
        assert chosen["learning_rate"] == rows[f"npo-{name}"]["learning_rate"]
        assert float(chosen["criterion"]) == max(
            float(record["criterion"]) for record in tuned if record["optimizer"] == name
        )
        assert rows[f"npo-{name}"]["rates_tried"] == "3"
    assert rows["npo-sign"]["baseline"] == "npo-adamw"
    assert rows["npo-sign"]["false_share_minus_baseline"]
    assert not rows["npo-adamw"]["false_share_minus_baseline"]
    assert not rows["clean"]["objective"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["optimizer_steps_per_run"] == 3
    assert summary["tuning_seeds"] == [7]
    assert summary["npo-sign/at_edge"] is (rows["npo-sign"]["at_edge"] == "true")
    assert summary["npo-sign/learning_rate"] == float(rows["npo-sign"]["learning_rate"])
    assert summary["npo-sign/training_rows"] == 12
    text = (out / "comparison.md").read_text()
    assert "- sign: `{max_grad_norm: null, optimizer: {class_path: Lion}}`" in text
    assert "retain_weight: 2.0" in text
    assert "| npo | sign |" in text
    assert "tuning seeds 7" in text
    assert "3 optimizer steps" in text
    assert not list(out.glob("seed*/npo-*/export")), "weights of the runs stay only if they are wanted"
    assert (out / "seed7" / "corrupted" / "export").is_dir()

    again = run("compare", "--config", recipe, "--output", "out", "--json")
    assert again.code == 0, again.err
    lines = [line for line in again.err.splitlines() if re.match(r"\[\d+/\d+\]", line)]
    assert len(lines) == summary["runs"]
    assert all("reused" in line for line in lines)
    after = json.loads(again.out)
    assert {key: after[key] for key in after if "/" in key} == {key: summary[key] for key in summary if "/" in key}

    kept = run("compare", "--config", recipe, "--output", "out", "--keep_models", "true", "--optimizers.sign", "null")
    assert kept.code == 0, kept.err
    assert list((tmp_path / "out").glob("seed0/npo-adamw-*/export"))


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_numbers(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    numbers = {}
    for workers in ("null", "1", "2"):
        outcome = run("compare", "--config", recipe, "--output", f"out-{workers}", "--workers", workers)
        assert outcome.code == 0, outcome.err
        out = tmp_path / f"out-{workers}"
        numbers[workers] = [(out / name).read_text() for name in ("comparison.csv", "tuning.csv", "comparison.md")]
    assert numbers["1"] == numbers["2"]
    assert numbers["null"] == numbers["2"]  # tests run torch with one thread, as workers do


@pytest.mark.slow
def test_an_error_in_a_worker_is_one_sentence(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    grid["optimizers"]["sign"]["optimizer"]["init_args"] = {"betas": [0.9, 2.0]}
    outcome = run("compare", "--config", write_yaml(tmp_path / "grid.yaml", grid), "--output", "o", "--workers", "1")
    assert outcome.code == 2
    assert outcome.error.startswith("error: npo-sign-1e-4, seed 7: Lion: ")


def test_a_rate_that_diverges_in_tuning_is_not_chosen(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    grid["optimizers"] = {"adamw": {"rates": [1e-4, 1e25], "optimizer": {"class_path": "SGD"}, "max_grad_norm": None}}
    grid["tuning"]["most_rates"] = 2
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    for _ in range(2):
        outcome = run("compare", "--config", recipe, "--output", "out")
        assert outcome.code == 0, outcome.err
        assert "npo-adamw-1e25, seed 7: diverged" in outcome.err
        low, high = records(tmp_path / "out" / "tuning.csv")
        assert (low["chosen"], low["diverged"]) == ("true", "false")
        assert (high["chosen"], high["diverged"], high["criterion"]) == ("false", "true", "")
        assert high["criterion_seed7"] == ""
        assert low["criterion_seed7"] == low["criterion"]
        assert low["accuracy_corrupted_seed7"] == low["accuracy_corrupted"]
    assert "diverged, reused" in outcome.err
    skipped = json.loads((tmp_path / "out" / "seed7" / "npo-adamw-1e25" / "summary.json").read_text())
    assert "the last optimizer step" in skipped["diverged"], "it ran to its end, and its last steps were skipped"
    table = (tmp_path / "out" / "comparison.md").read_text()
    none = run("compare", "--config", recipe, "--output", "out", "--optimizers.adamw.rates", "[1e24, 1e25]")
    assert none.code == 2
    assert "npo-adamw diverged on the tuning seeds at every rate" in none.error
    assert (tmp_path / "out" / "comparison.md").read_text() == table, "the old tables stay until there are new ones"


def test_a_pair_that_diverges_on_a_reported_seed_keeps_its_row(
    run: Run, grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_end = stage_jobs._check_end

    def diverge(folder: Path, model: Path) -> None:
        if folder.parent.name == "seed1" and folder.name.startswith("npo-adamw"):
            raise TrainingDivergedError("made to")
        check_end(folder, model)

    monkeypatch.setattr(stage_jobs, "_check_end", diverge)
    grid |= {"seeds": [0, 1], "control_objective": "retain-only"}
    grid["objectives"]["retain-only"] = {}
    grid["tuning"]["most_rates"] = 2
    outcome = run("compare", "--config", write_yaml(tmp_path / "grid.yaml", grid), "--output", "out")
    assert outcome.code == 0, outcome.err
    assert "diverged on 1/2" in outcome.out
    rows = {record["model"]: record for record in records(tmp_path / "out" / "comparison.csv")}
    assert list(rows)[2:] == ["npo-adamw", "npo-sign", "retain-only-adamw", "retain-only-sign"]
    assert [rows[name]["diverged_seeds"] for name in list(rows)[2:]] == ["1", "0", "0", "0"]
    assert rows["npo-adamw"]["accuracy_corrupted"] == ""
    assert rows["npo-adamw"]["learning_rate"]
    assert rows["npo-sign"]["false_share_minus_baseline"] == "", "its baseline has no numbers"
    assert rows["retain-only-sign"]["false_share_minus_baseline"]
    difference = float(rows["npo-sign"]["false_share"]) - float(rows["retain-only-sign"]["false_share"])
    assert float(rows["npo-sign"]["false_share_minus_control_objective"]) == pytest.approx(difference)
    assert rows["retain-only-sign"]["false_share_minus_control_objective"] == ""
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| npo | adamw |" in text
    assert "diverged on 1 of 2 seeds |" in text
    assert "npo-sign minus retain-only-sign: false answers" in text
    # Three steps of two rows a stream, and retain-only reads one stream.
    assert (rows["npo-sign"]["training_rows"], rows["retain-only-sign"]["training_rows"]) == ("12", "6")
    assert "nan" not in (tmp_path / "out" / "comparison.csv").read_text()


def test_what_is_lost_of_the_control_answers_costs(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    start = grid["stages"]["clean"]["pretrained"]
    grid["stages"]["clean"] = {
        "shared": True, "trainer": {"max_epochs": 60}, **finetuning(start, 1e-2, {"forget": 1.0, "retain": 1.0}),
    }  # fmt: skip
    grid["stages"]["corrupted"]["trainer"]["max_epochs"] = 1
    del grid["optimizers"]["sign"]
    grid["optimizers"]["adamw"]["rates"] = [1e-5, 1.0]
    grid["tuning"] = {"most_rates": 2, "control_tolerance": 0.1, "control_penalty": 0.5}
    outcome = run("compare", "--config", write_yaml(tmp_path / "grid.yaml", grid), "--output", "out")
    assert outcome.code == 0, outcome.err
    known = read_rows(tmp_path / "out" / "seed7" / "clean" / "rows" / "restoration_unlearned.jsonl")
    clean = sum(row.true for row in known if row.role == "control") / sum(row.role == "control" for row in known)
    assert clean > 0.5
    low, high = records(tmp_path / "out" / "tuning.csv")
    for record in (low, high):
        lost = max(0.0, clean - 0.1 - float(record["accuracy_control"]))
        assert float(record["criterion"]) == pytest.approx(float(record["accuracy_corrupted"]) - 0.5 * lost, abs=1e-8)
    assert float(high["criterion"]) < float(high["accuracy_corrupted"])
    assert low["chosen"] == "true"


def test_a_run_that_ends_early_is_refused_at_once(
    run: Run, grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do = stage_jobs.do

    def shorter(runner: StageRunner, job: stage_jobs.Job) -> stage_jobs.Done:
        done = do(runner, job)
        return replace(done, steps=2) if job.stage.name == "npo-adamw-1e-3" else done

    monkeypatch.setattr(stage_jobs, "do", shorter)
    outcome = run("compare", "--config", write_yaml(tmp_path / "grid.yaml", grid), "--output", "out")
    assert outcome.code == 2
    assert "npo-adamw-1e-3, seed 7 took 2 optimizer steps and another run 3" in outcome.error
    assert "npo-sign" not in outcome.err, "the others of the batch are not run"
    assert (tmp_path / "out" / "seed7" / "npo-adamw-1e-4").is_dir(), "what was finished stays"


def test_weights_that_are_not_finite_have_diverged(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2), "b": torch.tensor([1.0, float("inf")])}, tmp_path / "model.safetensors")
    with pytest.raises(TrainingDivergedError, match="the weights b are not finite"):
        stage_jobs._check_end(tmp_path, tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    stage_jobs._check_end(tmp_path, tmp_path)


def test_what_another_worker_finished_is_kept(
    run: Run, grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(runner: StageRunner, job: stage_jobs.Job) -> stage_jobs.Done:
        if finishes:
            write_summary(tmp_path / "out" / "seed1" / "other", {"optimizer_steps": 3})
        raise MisconfigurationError("no")

    monkeypatch.setattr(stage_jobs, "do", fail)
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    for finishes in (False, True):
        assert run("compare", "--config", recipe, "--output", "out").code == 2
        assert (tmp_path / "out").exists() is finishes


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_with_one_line(grid: dict[str, Any], tmp_path: Path) -> None:
    grid["stages"]["corrupted"]["trainer"]["max_epochs"] = 100_000
    command = [sys.executable, "-m", "soul_lightning.cli", "compare", "--workers", "2", "--output", "out", "--config"]
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    for sent in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [*command, str(recipe)], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
            # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.stderr is not None
        while "clean" not in (line := process.stderr.readline()):  # the first stage is done, the next is being made
            assert line, "it ended too early"
        time.sleep(3)
        if sent is signal.SIGINT:
            os.killpg(process.pid, sent)  # the terminal sends it to every process
        else:
            process.send_signal(sent)
        started = time.monotonic()
        try:
            _, last = process.communicate(timeout=60)  # ends when the last process that writes to it has
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"{sent.name} ended neither the command nor its workers within a minute")
        seconds = time.monotonic() - started
        assert seconds < 30, "a worker went on"  # about one, and longer where many processes share a core
        if sent is signal.SIGINT:
            assert process.returncode == 130
            assert [line for line in last.splitlines() if not line.startswith("[")] == ["interrupted"]


def test_mistakes_are_found_before_the_first_run(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    for args, said in (
        (("--tuning_seeds", "[0, 7]"), "seed 0 stands in seeds and in tuning_seeds"),
        (("--tuning_seeds", "[]"), "tuning_seeds must be a list"),
        (("--tuning_seed", "[3]"), "no key 'tuning_seed' (did you mean tuning_seeds or tuning?)"),
        (("--optimizers.adamw.rates", "[]"), "optimizers.adamw.rates must be a list of two or more"),
        (("--optimizers.adamv.rates", "[1e-4]"), "there is no optimizer 'adamv' (did you mean adamw?)"),
        (("--optimizers.adamw.trainer.max_epochs", "2"), "optimizers.adamw sets trainer, and an optimizer may set"),
        (("--optimizers.adamw.retain_weight", "1"), "optimizers.adamw sets retain_weight, and an optimizer may set"),
        (("--optimizers.adamw.saliency", "{fraction: 0.5}"), "all else must be the same for every optimizer"),
        (("--optimizers.adamw.optimizer.init_args.lr", "1"), "optimizers.adamw.optimizer sets lr, which is tuned"),
        (("--optimizers.adamw.optimizer.class_path", "AdamV"), "optimizer adamw: model.optimizer: there is no class"),
        (("--optimizers.adamw.curvatur", "x"), "optimizers.adamw sets curvatur (did you mean curvature?)"),
        (("--objectives.npo.forgets", "x"), "objectives.npo has no key 'forgets' (did you mean forget"),
        (("--objectives.npo", "null"), "objectives is empty"),
        (("--tuning.criterion", "restoratio"), "tuning.criterion is 'restoratio' (did you mean restoration?)"),
        (("--tuning.criterion", "[1]"), "tuning.criterion is [1]; the criteria are"),
        (("--tuning.most", "3"), "tuning has no key 'most'"),
        (("--tuning.most_rates", "1"), "tuning.most_rates must be a whole number >= 2"),
        (("--tuning.control_penalty", "-1"), "tuning.control_penalty must be a number >= 0"),
        (("--tuning.control_penalty", "true"), "tuning.control_penalty must be a number >= 0, got True"),
        (("--tuning.control_tolerance", ".inf"), "tuning.control_tolerance must be a number >= 0"),
        (("--optimizers.adamw.rates", "[1.0e-4, 1.001e-4]"), "less than a ratio of 1.1 apart"),
        (("--restoration.max_new_tokens", "abc"), "restoration.max_new_tokens must be a whole number >= 1, got 'abc'"),
        (("--restoration.batch_size", "0"), "restoration.batch_size must be a whole number >= 1, got 0"),
        (("--restoration.threshold", "2"), "restoration.threshold must be a number above 0 and at most 1, got 2"),
        (
            ("--control_objective", "nop"),
            "control_objective is 'nop', and there is no such objective (did you mean npo?)",
        ),
        (("--model.init_args.network.pretrained_model_name_or_path", "stage:clean"), "to stage:corrupted"),
        (("--baseline", "adam"), "baseline is 'adam', and there is no such optimizer (did you mean adamw?)"),
        (("--workers", "0"), "workers must be a whole number >= 1"),
        (("--keep_models", "3"), "keep_models must be true or false"),
        (("--model.init_args.network.pretrained_model_name_or_path", "stage:corupted"), "(did you mean corrupted?)"),
        (("--restoration.max_tokens", "3"), "restoration has no key 'max_tokens'"),
    ):
        outcome = run("compare", "--config", recipe, *args)
        assert outcome.code == 2, args
        assert outcome.error.startswith("error: "), outcome.err
        assert said in outcome.error
        assert "[1/" not in outcome.err
    assert not (tmp_path / "runs").exists()


def test_commands_refuse_the_folders_of_one_another(run: Run, grid: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    recipe = write_yaml(tmp_path / "grid.yaml", grid)
    story = write_yaml(tmp_path / "story.yaml", {key: grid[key] for key in ("seeds", "fit", "stages")})
    for command, own, other in (("compare", recipe, story), ("restor", story, recipe)):
        (tmp_path / "out" / "config.yaml").write_text(other.read_text())
        outcome = run(command, "--config", own, "--output", "out")
        assert outcome.code == 2
        assert "already holds another run" in outcome.error
    assert run("restor", "--config", recipe).code == 2


def test_clean_and_corrupted_must_be_there(grid: dict[str, Any]) -> None:
    del grid["stages"]["clean"]
    grid["stages"]["corrupted"] = {"pretrained": "x"}
    with pytest.raises(MisconfigurationError, match="there is no such stage"):
        parse_comparison(grid)


def test_tuning_makes_no_stage_that_it_does_not_need(grid: dict[str, Any]) -> None:
    grid["stages"]["retain-only"] = finetuning("stage:corrupted", 1e-3, {"retain": 1.0})
    assert [stage.name for stage in parse_comparison(grid).tuning_stages] == ["clean", "corrupted"]


def test_two_runs_of_one_name_are_refused(grid: dict[str, Any]) -> None:
    grid["stages"]["npo-adamw"] = finetuning("stage:corrupted", 1e-3, {"retain": 1.0})
    with pytest.raises(MisconfigurationError, match="twice"):
        parse_comparison(grid)


@pytest.mark.parametrize("name", [name for name, each in packaged_recipes().items() if each.command == "compare"])
def test_every_compare_recipe_parses(name: str) -> None:
    raw = read_yaml(find_recipe(name).text, name)
    config = parse_comparison(override(raw, []))
    check_comparison(config, name)
    assert len(config.pairs) == len(config.raw["objectives"]) * len(config.raw["optimizers"])
