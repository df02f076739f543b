"""`requests`: one after another, withdrawn, at once; runs are reused, and everything ends in one table and one plot."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from soul_lightning.cli.recipe_files import packaged_recipes
from soul_lightning.cli.request_config import parse_requests
from soul_lightning.cli.request_plan import plan_requests
from soul_lightning.cli.request_questions import request_questions
from soul_lightning.cli.request_runs import check_requests
from soul_lightning.cli.stages import override, read_yaml
from soul_lightning.datamodules import RecordsDataModule, TOFUDataModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.base import StreamModule
from soul_lightning.protocols import Probe
from tests.cli.conftest import Run, write_yaml
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples


def learning(lr: float, **network: str) -> dict[str, Any]:
    """Learn forget and retain."""
    settings: dict[str, Any] = {"streams": {"forget": 1.0, "retain": 1.0}}
    if network:
        settings["network"] = network
    optimizer: dict[str, Any] = {"class_path": "AdamW", "init_args": {"lr": lr}}
    return {"model": {"class_path": "FinetuningModule", "init_args": {**settings, "optimizer": optimizer}}}


@pytest.fixture
def story(model_folder: Path) -> dict[str, Any]:
    """Two people are learned, then forgotten one after the other, and the first is withdrawn."""
    module: dict[str, Any] = {"forget": {"class_path": "NPO"}, "retain": {"class_path": "CrossEntropy"}}
    module |= {"optimizer": {"class_path": "AdamW", "init_args": {"lr": 1e-3}}}
    return {
        "seeds": [0],
        "requests": 2,
        "sequence": [{"forget": 1}, {"forget": 2}, {"withdraw": 1}],
        "sizes": [1, 2],
        "withdrawal": ["relearn", "redo"],
        "fit": {
            "data": {"class_path": "tests.conftest.TinyDataModule", "init_args": {"batch_size": 2, "seed": "${seed}"}},
            "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        },
        "stages": {
            "trained": {
                **learning(1e-2, pretrained_model_name_or_path=str(model_folder)),
                "trainer": {"max_epochs": 4},
            }
        },
        "methods": {"npo": {"model": {"class_path": "UnlearningModule", "init_args": module}}},
        "relearning": learning(1e-3),
        "restoration": {"max_new_tokens": 3},
    }


def records(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def settings_of(folder: Path, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "seed0" / name / "config.yaml").read_text()))


@pytest.mark.slow
def test_a_sequence_runs_once_is_asked_after_each_step_and_reused(
    run: Run, story: dict[str, Any], tmp_path: Path
) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    outcome = run("requests", "--config", recipe, "--output", "out")
    assert outcome.code == 0, outcome.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "config.yaml", "summary.json", "requests.csv", "requests.png", "seed0",
    }  # fmt: skip
    runs = {path.name for path in (out / "seed0").iterdir()}
    assert runs == {"trained", "npo-f1", "npo-f1-f2", "npo-f1-f2-r1", "npo-f2", "npo-f1.2"}
    assert max(map(len, outcome.out.splitlines()[:12])) <= 80
    assert "withdraw 1, relearn" in outcome.out
    last = settings_of(out, "npo-f1-f2")
    assert last["model"]["init_args"]["network"]["pretrained_model_name_or_path"].endswith("npo-f1/export")
    assert (last["data"]["init_args"]["requests"], last["data"]["init_args"]["request"]) == (2, 2)
    assert settings_of(out, "npo-f1.2")["data"]["init_args"]["request"] == [1, 2]
    again = settings_of(out, "npo-f1-f2-r1")
    assert again["model"]["class_path"].endswith("FinetuningModule")
    assert again["data"]["init_args"]["request"] == 1
    rows = records(out / "requests.csv")
    own = {(row["event"], row["group"]): row for row in rows}
    assert {event for event, _ in own} == {
        "trained", "forget 1", "forget 2", "withdraw 1, relearn", "withdraw 1, redo", "1 of 2", "2 of 2",
    }  # fmt: skip
    assert [own["forget 1", f"request {number}"]["state"] for number in (1, 2)] == ["forgotten", "to come"]
    assert own["withdraw 1, redo", "request 1"]["state"] == "withdrawn"
    assert own["forget 1", "control"]["questions"] == "8"
    assert own["forget 1", "request 1"]["questions"] == "3"
    assert (own["forget 1", "control"]["optimizer_steps"], own["2 of 2", "control"]["optimizer_steps"]) == (
        "2.0",
        "3.0",
    )
    assert own["trained", "control"]["optimizer_steps"] == ""
    assert float(own["forget 2", "control"]["cpu_seconds"]) > 0
    same = ("answered", "answered_low", "true", "change", "optimizer_steps")
    for group in ("request 1", "request 2", "control"):
        first, one = own["forget 1", group], own["1 of 2", group]
        assert [first[name] for name in same] == [one[name] for name in same], "one run serves both"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["npo/1 forget 1/request 1/answered"] == float(own["forget 1", "request 1"]["answered"])
    assert summary["npo/2 of 2/optimizer_steps"] == 3

    again_too = run("requests", "--config", recipe, "--output", "out", "--json")
    assert again_too.code == 0, again_too.err
    assert again_too.err.count(": reused") == 6
    after = json.loads(again_too.out)
    assert {key: after[key] for key in summary if "/" in key} == {key: summary[key] for key in summary if "/" in key}

    longer = run(
        "requests", "--config", recipe, "--output", "out", "--seeds", "[0, 1]", "--sizes", "null", "--sequence",
        "[{forget: 1}, {withdraw: 1}, {forget: 2}]",
    )  # fmt: skip
    assert longer.code == 0, longer.err
    # The withdrawal of all that was forgotten is the model before it.
    assert {line.split("]")[1].split(":")[0].strip() for line in longer.err.splitlines() if ": reused" in line} == {
        "trained, seed 0", "npo-f1, seed 0",
    }  # fmt: skip
    (redone,) = [
        row
        for row in records(out / "requests.csv")
        if (row["event"], row["group"]) == ("withdraw 1, redo", "request 1")
    ]
    assert (redone["questions"], redone["subjects"], redone["change"]) == ("6", "2", "0.0")
    assert redone["optimizer_steps"] == "0.0"


def test_a_run_that_was_killed_is_gone_on_with(
    run: Run, story: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    original = StreamModule.training_step

    def killed(self: StreamModule, *given: Any) -> None:
        if Path("out/seed0/npo-f1/summary.json").exists():
            raise KeyboardInterrupt
        original(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(StreamModule, "training_step", killed)
        outcome = run("requests", "--config", recipe, "--output", "out", "--sizes", "null")
    assert outcome.code == 130
    assert not (tmp_path / "out" / "summary.json").exists()
    outcome = run("requests", "--config", recipe, "--output", "out", "--sizes", "null")
    assert outcome.code == 0, outcome.err
    reused = [line for line in outcome.err.splitlines() if ": reused" in line]
    assert len(reused) == 2
    assert "npo-f1, seed 0" in reused[1]


def test_targets_change_within_a_run(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    story |= {"sequence": [{"forget": 2, "request_at_step": {1: 1}}, {"withdraw": 2}], "sizes": None}
    story["fit"]["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs", "name": "log"}}
    outcome = run("requests", "--config", write_yaml(tmp_path / "story.yaml", story), "--output", "out")
    assert outcome.code == 0, outcome.err
    runs = {path.name for path in (tmp_path / "out" / "seed0").iterdir()}
    assert runs == {"trained", "npo-f2then1at1", "npo-f2then1at1-r2", "npo-f1"}, (
        "done again without 2, 1 is there at once"
    )
    assert "forget 2, 1 at 1" in outcome.out
    logged = [
        float(row["train/request"])
        for path in sorted(tmp_path.glob("logs/log/*/metrics.csv"))
        for row in records(path)
        if row.get("train/request")
    ]
    assert logged == [2, 1]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_numbers(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    story |= {"sequence": [{"forget": 1}], "sizes": [2]}
    recipe = write_yaml(tmp_path / "story.yaml", story)
    found = []
    for workers in ("null", "2"):
        outcome = run("requests", "--config", recipe, "--output", f"out-{workers}", "--workers", workers)
        assert outcome.code == 0, outcome.err
        rows = records(tmp_path / f"out-{workers}" / "requests.csv")
        found.append([{name: value for name, value in row.items() if name != "cpu_seconds"} for row in rows])
    assert found[0] == found[1]


WRONG = {
    "--sequence=[{forget: 3}]": "step 1 of the sequence names request 3, and the requests are 1 to 2",
    "--sequence=[{withdraw: 1}]": "withdraws request 1, which was not forgotten by then",
    "--sequence=[{forget: 1}, {withdraw: 1}, {withdraw: 1}]": "step 3 of the sequence withdraws request 1",
    "--sequence=[{forget: 1}, {forget: [2, 1]}]": "step 2 of the sequence forgets request 1, which is forgotten",
    "--sequence=[{forgt: 1}]": "step 1 of the sequence has no key 'forgt' (did you mean forget?)",
    "--sequence=[{forget: 1, withdraw: 2}]": "must be forget with a request",
    "--sequence=[1]": "must be forget with a request",
    "--sequence=[{forget: [1, 2], request_at_step: {3: 2}}]": "must begin with one request",
    "--sequence=[{forget: 1, request_at_step: {0: 2}}]": "step of request_at_step must be a whole number >= 1",
    "--sequence=[{forget: 1, request_at_step: {2: 1}}]": "names a request twice",
    "--sizes=[2, 1]": "sizes must be rising numbers of requests",
    "--sizes=[0.05]": "raise requests for smaller parts",
    "--requests=1": "requests must be a whole number >= 2, got 1",
    "--requests=3": "requests=3 is more than the 2 subjects to forget; take fewer requests",
    "--withdrawal=undo": "withdrawal must be relearn or redo, or a list of both, got 'undo'",
    "--relearning=null": "nothing says how; give relearning a model",
    "--start=traind": "there is no such stage (did you mean trained?)",
    "--methods.npo=null": "methods is empty",
    "--methods.npo.model.init_args.network.pretrained_model_name_or_path=x": "methods.npo starts from 'x'",
    "--methods.npo.model.init_args.network.class_path=stage:trainet": "no such stage (did you mean trained?)",
    "--methods.npo.model.class_path=null": "methods.npo.model.class_path is missing",
    "--methods.npx.model.class_path=UnlearningModule": "there is no method 'npx' (did you mean npo?)",
    "--methods.npo.model.init_args.forgt=NPO": "forgt",
    "--method=1": "a requests recipe has no key 'method' (did you mean methods?)",
    "--fit.data.init_args.requests=2": "write requests: 2 at the top instead",
    "--fit.data.init_args.streams=[retain]": "requests=2 cuts the forget stream, and this task trains on retain",
    "--fit.data.class_path=NoSuchDataModule": "NoSuchDataModule",
    "--workers=0": "workers must be a whole number >= 1, got 0",
}  # fmt: skip


@pytest.mark.parametrize("argument", WRONG)
def test_what_is_wrong_is_said_in_one_sentence_before_anything_runs(
    run: Run, story: dict[str, Any], tmp_path: Path, argument: str
) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    outcome = run("requests", "--config", recipe, "--output", "out", argument)
    assert outcome.code == 2
    assert WRONG[argument] in outcome.error
    assert not (tmp_path / "out").exists()


def test_another_command_and_another_run_are_told_apart(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    outcome = run("restor", "--config", recipe)
    assert "run soul-lightning requests --config story" in outcome.error
    (tmp_path / "out").mkdir()
    write_yaml(tmp_path / "out" / "config.yaml", {"stages": {}})
    assert "already holds another run" in run("requests", "--config", recipe, "--output", "out").error


def test_help_names_every_key(run: Run) -> None:
    from soul_lightning.cli.request_config import KEYS

    outcome = run("requests", "--help")
    assert outcome.code == 0
    assert all(f"  {key}:" in outcome.out for key in KEYS)


@pytest.mark.parametrize("name", [name for name, recipe in packaged_recipes().items() if recipe.command == "requests"])
def test_every_requests_recipe_parses(name: str) -> None:
    config = parse_requests(read_yaml(packaged_recipes()[name].text, name))
    check_requests(config, name)
    assert plan_requests(config).stages


def test_runs_are_called_by_what_came_before() -> None:
    raw = read_yaml(packaged_recipes()["requests-tiny-world"].text, "requests-tiny-world")
    raw = override(raw, ["--requests=60", "--sizes=[60]", "--sequence=null", "--methods.npo-adamw=null"])
    plan = plan_requests(parse_requests(raw))
    names = [stage.name for stage in plan.stages]
    assert names[:2] == ["npo-sophia-f1", "npo-sophia-f1-f2"]
    assert names[-1] == "npo-sophia-f1to60"
    assert len(set(names)) == 61
    assert max(map(len, names)) < 200
    raw = override(
        raw, ["--requests=4", "--sizes=null", "--sequence=[{forget: 1}, {forget: 2}, {withdraw: 1}, {forget: 1}]"]
    )
    plan = plan_requests(parse_requests(raw))
    assert [stage.name for stage in plan.stages][-3:] == [
        "npo-sophia-f1-f2-r1", "npo-sophia-f2", "npo-sophia-f1-f2-r1-f1",
    ]  # fmt: skip
    last = plan.states[-1]
    assert (last.forgotten, last.withdrawn, last.kind) == ((2, 1), (), "forget")


def test_a_method_may_say_how_its_network_is_loaded_and_name_another_stage(story: dict[str, Any]) -> None:
    module = story["methods"]["npo"]["model"]["init_args"]
    module["network"] = {"class_path": "PretrainedNetwork", "init_args": {"dtype": "float32"}}
    module["other"] = "stage:trained"
    stages = {stage.name: stage for stage in plan_requests(parse_requests(story)).stages}
    second = stages["npo-f1-f2"]
    assert second.upstream == ("npo-f1", "trained")
    assert second.config["model"]["init_args"]["network"]["init_args"] == {
        "dtype": "float32", "pretrained_model_name_or_path": "stage:npo-f1",
    }  # fmt: skip


def test_questions_are_those_of_the_requests_and_of_what_must_stay() -> None:
    rows, kept = as_examples(FORGET), as_examples(RETAIN)
    texts = [Probe("forget", "text", rows, "forget", PLAIN), Probe("retain", "text", kept, "retain", PLAIN)]
    parts = [Probe(f"forget_{number}", "text", rows[:number], "forget", PLAIN, "forget") for number in (1, 2)]
    found = request_questions("X", [*texts, *parts])
    assert [(probe.name, probe.kind) for probe in found] == [
        ("forget_1", "question"), ("forget_2", "question"), ("retain", "question"),
    ]  # fmt: skip
    asked = [
        Probe(name, "question", rows, "forget", PLAIN, "forget") for name in ("forget_questions", "forget_rephrased")
    ]
    own = [
        Probe(f"{probe.name}_{number}", "question", rows[:number], "forget", PLAIN, probe.name)
        for probe in asked
        for number in (1, 2)
    ]
    found = request_questions("X", [*texts, *asked, *parts, *own])
    assert [probe.name for probe in found] == ["forget_questions_1", "forget_questions_2", "retain"]
    without = [Probe("forget", "text", [type(rows[0])("text")], "forget")]
    with pytest.raises(MisconfigurationError, match="X has no questions about its requests"):
        request_questions("X", without)


@pytest.mark.real
def test_tofu_is_asked_author_by_author(tokenizer: Any) -> None:
    if "SOUL_DATA" not in os.environ:
        pytest.skip("SOUL_DATA names no folder with tofu/ in it")
    data = TOFUDataModule(folder=f"{os.environ['SOUL_DATA']}/tofu", requests=20, request=20, tokenizer=tokenizer)
    found = {probe.name: len(probe.examples) for probe in request_questions("TOFUDataModule", data.loaded.probes)}
    assert found == {f"forget_questions_{author}": 20 for author in range(1, 21)} | {
        "real_authors_questions": 100, "world_facts_questions": 117, "retain_questions": 400,
    }  # fmt: skip


def test_records_are_asked_by_their_own_questions(tmp_path: Path, tokenizer: Any) -> None:
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in FORGET]
    (tmp_path / "forget.jsonl").write_text("\n".join(lines))
    data = RecordsDataModule(forget=str(tmp_path / "forget.jsonl"), requests=3, request=3, tokenizer=tokenizer)
    data.setup()
    found = request_questions("RecordsDataModule", data.probes())
    assert [(probe.name, len(probe.examples)) for probe in found] == [(f"forget_questions_{n}", 2) for n in (1, 2, 3)]
