"""`describe`: what a recipe's data holds, without a run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_the_embedded_world_is_described_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    outcome = run("describe", "--config", "quickstart")
    assert outcome.code == 0, outcome.err
    assert "TinyWorldDataModule: streams" in outcome.out
    assert "⟦" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_same_counts(run: Run) -> None:
    outcome = run("describe", "--config", "quickstart", "--json", "--data.corrupted_people", "6")
    described = json.loads(outcome.out)
    streams = {stream["name"]: stream for stream in described["streams"]}
    assert streams["forget"]["subjects"] == 6
    assert streams["forget"]["truncated"] == 0
    assert {probe["name"] for probe in described["probes"]} >= {"corrupted", "control", "holdout"}


def test_of_several_configurations_later_ones_win(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fewer.yaml").write_text("data: {init_args: {corrupted_people: 6}}\n")
    outcome = run("describe", "--config", "quickstart", "--config", "fewer.yaml", "--json")
    assert next(each["subjects"] for each in json.loads(outcome.out)["streams"] if each["name"] == "forget") == 6


def test_another_commands_recipe_is_refused(run: Run) -> None:
    outcome = run("describe", "--config", "tiny-world")
    assert outcome.code == 2
    assert "restor" in outcome.error


def test_a_streamed_retain_set_is_not_said_to_be_missing(run: Run, tmp_path: Path) -> None:
    for name, text in (("forget", "ada lives in paris"), ("retain", "cora lives in oslo")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": text}) + "\n")
    source = json.dumps({"path": str(tmp_path / "retain.jsonl"), "streamed": True})
    outcome = run(
        "describe", "--config", "records", "--data.text_column", "text", "--data.forget",
        str(tmp_path / "forget.jsonl"), "--data.retain", source,
        "--model.network.pretrained_model_name_or_path", "packaged:tiny_world/clean",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "retain is streamed, and is searched for forget rows only as it is read" in " ".join(outcome.out.split())
