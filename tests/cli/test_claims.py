"""Several corruptions in one `restor` run, and the claims that its recipe makes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from soul_lightning.cli.claim_files import confident_stages, write_claims
from soul_lightning.cli.claims import Evidence
from soul_lightning.cli.comparing import write_comparison
from soul_lightning.cli.corruptions import branches, origins
from soul_lightning.cli.stages import parse_config
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.claims import Origin, contrast
from soul_lightning.scoring.answers import AnswerRow, read_rows
from tests.cli.conftest import Run, write_yaml
from tests.cli.test_restor_command import finetuning
from tests.metrics.test_restoration import people, rows

CLAIMS = {
    "the second comes back better": [{"of": "other-way", "minus": "way"}, {"of": ["way", "other-way"]}],
    "what is sure comes back": [{"confidence": "other-way"}],
}


@pytest.fixture
def story(model_folder: Path) -> dict[str, Any]:
    """Two corruptions, of two clean models, and a way back from each."""
    return {
        "seeds": [0, 1],
        "fit": {
            "data": {"class_path": "tests.conftest.TinyDataModule", "init_args": {"batch_size": 4, "seed": "${seed}"}},
            "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False},
        },
        "stages": {
            "clean": {"pretrained": str(model_folder)},
            "corrupted": finetuning("stage:clean", 1e-2, {"forget": 1.0}),
            "way": finetuning("stage:corrupted", 1e-3, {"retain": 1.0}),
            "other-clean": {"shared": True, **finetuning("stage:clean", 1e-4, {"retain": 1.0})},
            "other-corrupted": finetuning("stage:other-clean", 1e-2, {"forget": 1.0}),
            "other-way": finetuning("stage:other-corrupted", 1e-3, {"retain": 1.0}),
        },
        "restoration": {"max_new_tokens": 3},
        "table": {"corruptions": {"other-corrupted": {"clean": "other-clean"}}},
        "claims": CLAIMS,
    }


def test_a_stage_belongs_to_the_corruption_that_it_comes_of(story: dict[str, Any]) -> None:
    story["stages"]["further"] = finetuning("stage:other-way", 1e-3, {"retain": 1.0})
    story["table"] |= {"baseline": "way"}
    story["table"]["corruptions"]["other-corrupted"]["baseline"] = "other-way"
    config = parse_config(story)
    found = [(each.clean, each.corrupted, each.baseline, [s.name for s in each.stages]) for each in branches(config)]
    assert found == [
        ("clean", "corrupted", "way", ["clean", "corrupted", "way"]),
        ("other-clean", "other-corrupted", "other-way", ["other-clean", "other-corrupted", "other-way", "further"]),
    ]
    assert origins(config)["further"] == Origin("other-clean", "other-corrupted")
    assert origins(config)["way"] == Origin("clean", "corrupted")
    assert confident_stages(config) == {"other-clean"}
    alone = parse_config({**story, "table": {}, "claims": None})
    assert [each.stages for each in branches(alone)] == [alone.stages]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"x": []}, "claims.x must list what it rests on"),
        ({"x": {"of": "way"}}, "claims.x must list what it rests on"),
        ({"x": [{"off": "way"}]}, "claims.x has no key 'off' (did you mean of?)"),
        ({"x": [{"of": "wya"}]}, "claims.x names 'wya', and there is no such stage (did you mean way?)"),
        ({"x": [{"of": []}]}, "claims.x has an empty list of stages"),
        ({"x": [{"of": "way", "confidence": "way"}]}, "give either of (and perhaps minus), or confidence alone"),
        ({"x": [{"minus": "way"}]}, "give either of (and perhaps minus), or confidence alone"),
        ({"x": [{"confidence": ["way", "other-way"]}]}, "confidence takes one stage, got way, other-way"),
        (["x"], "claims must hold keys and values"),
    ],
)
def test_mistakes_in_claims(story: dict[str, Any], claims: Any, said: str) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        parse_config({**story, "claims": claims})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("corruptions", "said"),
    [
        ({"other": {}}, "table.corruptions.other names 'other', and there is no such stage"),
        ({"other-corrupted": {"clean": "cleen"}}, "names 'cleen', and there is no such stage (did you mean clean?)"),
        ({"other-corrupted": {"base": "way"}}, "has no key 'base' (did you mean baseline?)"),
        ({"corrupted": {}}, "table.corruptions names 'corrupted', the main corruption"),
        ({"other-corrupted": "other-clean"}, "table.corruptions.other-corrupted must hold keys and values"),
    ],
)
def test_mistakes_in_corruptions(story: dict[str, Any], corruptions: Any, said: str) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        parse_config({**story, "table": {"corruptions": corruptions}})
    assert said in str(caught.value)


def answers() -> dict[str, list[AnswerRow]]:
    """Ten people; every model knows a person's facts or does not."""
    known = {"clean": 10, "corrupted": 2, "way": 4, "other-clean": 8, "other-corrupted": 3, "other-way": 7}
    return {
        name: rows(name, people(" ".join("tt" if place < count else "f-" for place in range(10))))
        for name, count in known.items()
    }


def test_each_corruption_has_its_table_and_its_figure(
    story: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = parse_config(story)
    numbers = write_comparison(tmp_path, answers(), config)
    assert numbers["way/restoration"] == pytest.approx((4 - 2) / (10 - 2))
    assert numbers["other-way/restoration"] == pytest.approx((7 - 3) / (8 - 3))
    assert "All facts, other-corrupted" in capsys.readouterr().out
    with (tmp_path / "comparison.csv").open() as file:
        found = {row["model"]: row["restoration"] for row in csv.DictReader(file)}
    assert list(found) == ["clean", "corrupted", "way", "other-clean", "other-corrupted", "other-way"]
    assert float(found["other-clean"]) == 1
    assert {path.name for path in tmp_path.glob("*.png")} == {"comparison.png", "comparison-other-corrupted.png"}


def test_claims_are_tested_on_the_rows(
    story: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, tables = parse_config(story), answers()
    probabilities = {"other-clean": {row.key: 1 - row.index / 100 for row in tables["clean"]}}
    summary = write_claims(tmp_path, tables, probabilities, config, "story")
    first, level, confidence = summary["claims"]
    expected = contrast(tables, origins(config), ["other-way"], ["way"]).restoration
    assert expected is not None
    assert (first["value"], first["value_low"], first["value_high"]) == (expected.value, expected.low, expected.high)
    assert (first["claim"], first["verdict"]) == ("the second comes back better", "confirmed")
    assert (level["evidence"], level["verdict"]) == ("way and other-way", None)
    assert level["value"] == pytest.approx((2 / 8 + 4 / 5) / 2)
    assert confidence["number"] == "rank correlation"
    assert confidence["value"] > 0.5  # people 3 to 6 came back of 3 to 7, and each is less sure than the one before
    assert "of 10 lost facts 0.60 came back in the less sure half, 1.00 in the other" in confidence["note"]
    with (tmp_path / "claims.csv").open() as file:
        assert [row["evidence"] for row in csv.DictReader(file)] == [
            "other-way minus way", "way and other-way", "confidence, other-way",
        ]  # fmt: skip
    assert "| the second comes back better | other-way minus way |" in (tmp_path / "claims.md").read_text()
    assert (tmp_path / "claims.png").is_file()
    assert "what is sure comes back" in capsys.readouterr().out


def test_a_recipe_without_claims_writes_none(story: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_claims(out, answers(), {}, parse_config({**story, "claims": None}), "story") == {}
    assert not out.exists()


def test_evidence_in_words() -> None:
    assert Evidence(("npo", "ga"), ("kl",)).text == "npo and ga minus kl"
    assert Evidence(("npo",), by_confidence=True).text == "confidence, npo"


def test_restor_tests_its_claims(run: Run, story: dict[str, Any], tmp_path: Path) -> None:
    recipe = write_yaml(tmp_path / "story.yaml", story)
    outcome = run("restor", "--config", recipe, "--output", "out")
    assert outcome.code == 0, outcome.err
    assert "Claims" in outcome.out
    assert "claims.md" in outcome.out
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert [record["evidence"] for record in summary["claims"]] == [
        "other-way minus way", "way and other-way", "confidence, other-way",
    ]  # fmt: skip
    own = {
        name: [
            row for seed in (0, 1) for row in read_rows(out / f"seed{seed}" / name / "rows/restoration_unlearned.jsonl")
        ]
        for name in ("way", "other-way")
    }
    shares = [sum(row.false for row in each if row.role == "corrupted") for each in own.values()]
    facts = sum(row.role == "corrupted" for row in own["way"])
    assert summary["claims"][0]["false_share"] == pytest.approx((shares[1] - shares[0]) / facts)

    written = (out / "claims.md").read_text()
    again = run("compare", "--config", recipe, "--output", "out")  # which runs recipes of restor, too
    assert again.code == 0 and ": training" not in again.err, again.err
    assert "claims.png" in again.out and (out / "claims.md").read_text() == written

    without = run("restor", "--config", recipe, "--output", "out", "--claims", "null", "--table.corruptions", "null")
    assert without.code == 0, without.err
    assert ": training" not in without.err
    assert not list(out.glob("claims.*")) and not (out / "comparison-other-corrupted.png").exists()
