"""`audit`: a model is asked by one callback after another, nothing about it changes, and a report is written."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from soul_lightning.callbacks import RelearningAttack
from soul_lightning.cli.audit_config import asked_config, audit_config
from soul_lightning.cli.audit_files import files_hash
from soul_lightning.cli.recipe_files import find_recipe
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.reports.audit_files import read_audit
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel
from tests.callbacks.tiny_models import learnt, saved
from tests.cli.conftest import Run, write_yaml
from tests.conftest import FORGET, RETAIN, as_examples

DATA = {"class_path": "tests.conftest.TinyDataModule"}
SCHEMES = {"class_path": "QuantizationAttack", "init_args": {"schemes": ["int8"], "group_size": 16}}
LESSONS = {
    "class_path": "RelearningAttack",
    "init_args": {"sources": ["forget", "related"], "share": 0.5, "training": {"measure_at": [0, 2]}},
}


@pytest.fixture
def battery(tmp_path: Path) -> Path:
    """Two measurements and two attacks on the tiny task."""
    callbacks = [{"class_path": "Memorization", "init_args": {"answer": False}}, "Utility", SCHEMES, LESSONS]
    return write_yaml(tmp_path / "battery.yaml", {"data": DATA, "trainer": {"callbacks": callbacks}})


@pytest.fixture(scope="module")
def knowing(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learned everything."""
    rows = as_examples([*FORGET, *RETAIN])
    return Path(saved(learnt(tokenizer, rows), tokenizer, tmp_path_factory.mktemp("knowing")))


@pytest.fixture(scope="module")
def ignorant(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learned what must stay alone."""
    return Path(saved(learnt(tokenizer, as_examples(RETAIN)), tokenizer, tmp_path_factory.mktemp("ignorant")))


def stored(folder: Path) -> dict[str, int]:
    """When each part was written, in nanoseconds."""
    return {path.stem: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}


def test_every_callback_asks_and_the_model_stays(run: Run, battery: Path, knowing: Path, tmp_path: Path) -> None:
    before = files_hash(str(knowing))
    outcome = run("audit", "--config", battery, "--model", knowing, "--output", tmp_path / "found")
    assert outcome.code == 0, outcome.err
    assert "Does it come back?" in outcome.out and str(tmp_path / "found" / "audit.html") in outcome.out
    assert files_hash(str(knowing)) == before
    report = read_audit(tmp_path / "found")
    assert report.hash_before == report.hash_after == before
    assert [(part.name, part.not_run) for part in report.parts] == [
        ("memorization", None), ("utility", None), ("quantization", None), ("relearning", None),
    ]  # fmt: skip
    quantized = report.parts[2]
    assert quantized.metrics["quantization/none/memorization/exact_memorization"] == 1
    assert "quantization/int8/utility/retain_probability" in quantized.metrics
    assert {finding.question for finding in report.findings} == {"recovers"}
    assert [curve.x_label for curve in report.parts[3].curves] == ["optimizer steps of the attack"] * 4
    assert {path.name for path in (tmp_path / "found").iterdir()} >= {
        "audit.json", "audit.md", "audit.html", "config.yaml", "parts", "rows",
    }  # fmt: skip
    assert any("give `original`" in note for note in report.parts[3].notes)
    assert {path.suffix for path in knowing.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_what_is_done_is_not_asked_again_unless_something_else_is_asked(
    run: Run, battery: Path, knowing: Path, ignorant: Path, tmp_path: Path
) -> None:
    given = ("audit", "--config", battery, "--output", tmp_path / "found")
    assert run(*given, "--model", knowing).code == 0
    first, report = stored(tmp_path / "found"), read_audit(tmp_path / "found")
    again = run(*given, "--model", knowing)
    assert again.code == 0 and "[4/4] relearning: asked before" in again.err
    assert stored(tmp_path / "found") == first
    assert read_audit(tmp_path / "found").parts == report.parts
    changed = run(*given, "--model", knowing, "--trainer.callbacks.share", "0.6")  # of the last callback
    assert changed.code == 0, changed.err
    assert {name for name, time in stored(tmp_path / "found").items() if time != first[name]} == {"relearning"}
    first = stored(tmp_path / "found")
    utility = {"class_path": "Utility", "init_args": {"max_new_tokens": 4}}  # which measures the rounded copies too
    callbacks = [{"class_path": "Memorization", "init_args": {"answer": False}}, utility, SCHEMES, LESSONS]
    other = write_yaml(tmp_path / "other.yaml", {"data": DATA, "trainer": {"callbacks": callbacks}})
    assert run("audit", "--config", other, "--output", tmp_path / "found", "--model", knowing).code == 0
    assert {name for name, time in stored(tmp_path / "found").items() if time != first[name]} == {
        "utility", "quantization", "relearning",
    }  # fmt: skip
    assert run(*given, "--model", ignorant).code == 0
    assert all(time != first[name] for name, time in stored(tmp_path / "found").items())


def test_minutes_end_an_audit_that_can_be_gone_on_with(run: Run, battery: Path, knowing: Path, tmp_path: Path) -> None:
    given = ("audit", "--config", battery, "--model", knowing, "--output", tmp_path / "found")
    outcome = run(*given, "--minutes", "0.00001")
    assert outcome.code == 0, outcome.err
    report = read_audit(tmp_path / "found")
    assert all(part.not_run is not None and "minutes were used up" in part.not_run for part in report.parts)
    assert report.minutes_allowed == 0.00001
    assert run(*given).code == 0
    assert not read_audit(tmp_path / "found").not_run


def test_a_part_that_lacks_its_data_says_so_and_the_others_run(
    run: Run, config: dict[str, Any], knowing: Path, tmp_path: Path
) -> None:
    callbacks = [{"class_path": "RelearningAttack", "init_args": {"sources": ["unrelated"]}}, SCHEMES]
    recipe = write_yaml(tmp_path / "some.yaml", {"data": DATA, "trainer": {"callbacks": callbacks}})
    outcome = run("audit", "--config", recipe, "--model", knowing, "--output", tmp_path / "found")
    assert outcome.code == 0, outcome.err
    first, second = read_audit(tmp_path / "found").parts
    assert first.not_run is not None and "cannot train on unrelated" in first.not_run
    assert second.not_run is None and second.findings


def test_the_audit_of_a_reference_stands_for_it(
    run: Run, battery: Path, knowing: Path, ignorant: Path, tmp_path: Path
) -> None:
    given = ("audit", "--config", battery)
    assert run(*given, "--model", ignorant, "--output", tmp_path / "reference").code == 0
    for name, reference in (("by_model", ignorant), ("by_audit", tmp_path / "reference")):
        outcome = run(*given, "--model", knowing, "--reference", reference, "--output", tmp_path / name)
        assert outcome.code == 0, outcome.err
    by_model, by_audit = read_audit(tmp_path / "by_model"), read_audit(tmp_path / "by_audit")
    assert [part.findings for part in by_model.parts] == [part.findings for part in by_audit.parts]
    assert any("above a model that never saw it" in finding.measure for finding in by_model.findings)
    useful = [finding for finding in by_model.findings if finding.question == "useful"]
    assert [finding.verdict for finding in useful] == ["yes"]


def test_json_is_all_that_goes_to_stdout(run: Run, battery: Path, knowing: Path, tmp_path: Path) -> None:
    outcome = run("audit", "--config", battery, "--model", knowing, "--minutes", "0.00001", "--json")
    assert json.loads(outcome.out)["model"] == str(knowing)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "MODEL"), "audit needs --config"),
        (("--config", "BATTERY"), "audit needs --model"),
        (("--config", "BATTERY", "--model", "nowhere/at-all"), "nowhere/at-all"),
        (("--config", "BATTERY", "--model", "MODEL", "--minutes", "0"), "a number of minutes above 0, got '0'"),
        (("--config", "BATTERY", "--model", "MODEL", "--reference", "./gone"), "./gone"),
        (("--config", "BATTERY", "--model", "MODEL", "--trainer.colour", "red"), "colour"),
        (("--config", "nothing", "--model", "MODEL"), "there is no file and no recipe 'nothing'"),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(
    run: Run, battery: Path, knowing: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    names = {"MODEL": str(knowing), "BATTERY": str(battery)}
    outcome = run("audit", *(names.get(each, each) for each in arguments))
    assert outcome.code == 2
    assert message in outcome.error
    assert not (tmp_path / "runs").exists()


def test_another_run_is_not_written_over(run: Run, battery: Path, knowing: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("# a run of the recipe quickstart\n")
    outcome = run("audit", "--config", battery, "--model", knowing, "--output", tmp_path / "run")
    assert outcome.code == 2 and "already holds another run" in outcome.error


@pytest.mark.parametrize("inside", ["", "audit"])
def test_a_report_is_not_written_into_a_models_folder(run: Run, battery: Path, knowing: Path, inside: str) -> None:
    before = files_hash(str(knowing))
    outcome = run("audit", "--config", battery, "--model", knowing, "--output", knowing / inside)
    assert outcome.code == 2 and "lies in the folder of the model" in outcome.error
    assert files_hash(str(knowing)) == before


def test_the_packaged_battery_asks_where_nothing_else_does(tmp_path: Path) -> None:
    recipe = find_recipe("tiny-world")  # of restor: its data stand under `fit`
    config = asked_config(audit_config([recipe])[1], "somewhere", 7)
    names = [each if isinstance(each, str) else each["class_path"] for each in config["trainer"]["callbacks"]]
    assert {"PromptAttack", "QuantizationAttack", "RelearningAttack", "HiddenStateProbe"} <= set(names)
    assert config["data"]["init_args"]["corruption_seed"] == 7 and config["seed_everything"] == 7
    assert config["model"]["init_args"]["network"] == {"pretrained_model_name_or_path": "somewhere"}
    own = write_yaml(tmp_path / "own.yaml", {"trainer": {"callbacks": [SCHEMES]}})
    assert audit_config([recipe, find_recipe(str(own))])[1]["trainer"]["callbacks"] == [SCHEMES]


def test_the_packaged_battery_overrides_nothing_but_the_callbacks(tmp_path: Path) -> None:
    own = {
        "data": DATA,
        "audit": {"minutes": 30},
        "trainer": {"accelerator": "gpu", "precision": "bf16-true", "callbacks": ["Utility"]},
    }
    settings, config = audit_config([find_recipe(str(write_yaml(tmp_path / "own.yaml", own)))])
    assert settings.minutes == 30
    assert config["trainer"]["accelerator"] == "gpu" and config["trainer"]["precision"] == "bf16-true"
    assert len(config["trainer"]["callbacks"]) > 4


def test_a_recipe_may_name_the_models_and_the_minutes(
    run: Run, battery: Path, knowing: Path, ignorant: Path, tmp_path: Path
) -> None:
    section = {"model": str(knowing), "reference": str(ignorant), "minutes": 0.00001}
    own = write_yaml(tmp_path / "own.yaml", {"audit": section})
    outcome = run("audit", "-c", battery, "-c", own, "--output", tmp_path / "found")
    assert outcome.code == 0, outcome.err
    report = read_audit(tmp_path / "found")
    assert (report.model, report.reference) == (str(knowing), str(ignorant))
    assert len(report.not_run) == 4
    wrong = write_yaml(tmp_path / "wrong.yaml", {"audit": {"minuets": 3}})
    assert "audit has no key 'minuets' (did you mean minutes?)" in run("audit", "-c", wrong).error
    assert "run soul-lightning audit --config" in run("fit", "-c", own).error
    endless = write_yaml(tmp_path / "endless.yaml", {"audit": {"minutes": "soon"}})
    assert "audit.minutes must be a number above 0" in run("audit", "-c", endless).error


def test_sigterm_ends_an_audit_between_passes(
    run: Run, battery: Path, knowing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RelearningAttack.attack

    def attack(self: RelearningAttack, model: ScoredModel) -> list[MeasuredRow]:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, model)

    given = ("audit", "--config", battery, "--model", knowing, "--output", tmp_path / "found")
    with monkeypatch.context() as patched:
        patched.setattr(RelearningAttack, "attack", attack)
        outcome = run(*given)
    assert outcome.code == 143
    assert "stopped by SIGTERM" in outcome.error and "found" in outcome.error
    assert set(stored(tmp_path / "found")) == {"memorization", "utility", "quantization"}
    assert run(*given).code == 0
    assert not read_audit(tmp_path / "found").not_run


def test_a_hash_of_files_sees_every_byte_and_name(tmp_path: Path, knowing: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in knowing.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert files_hash(str(folder)) == files_hash(str(knowing))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert files_hash(str(folder)) != files_hash(str(knowing))
    with pytest.raises(MisconfigurationError, match="gone"):
        files_hash(str(tmp_path / "gone"))
