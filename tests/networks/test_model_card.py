"""The card says what was done and what came of it, and neither where nor to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from soul_lightning.networks.model_card import hub_name, model_card, read_configuration, shareable


def config(**network: Any) -> dict[str, Any]:
    return {
        "seed_everything": 3,
        "trainer": {
            "max_epochs": 2,
            "default_root_dir": "/home/ada/runs",
            "logger": {"save_dir": "x"},
            "plugins": None,
        },
        "model": {
            "class_path": "soul_lightning.UnlearningModule",
            "init_args": {"network": {"pretrained_model_name_or_path": "owner/name", **network}, "max_grad_norm": 1.0},
        },
        "data": {
            "class_path": "soul_lightning.datamodules.RecordsDataModule",
            "init_args": {
                "forget": "/home/ada/patients.jsonl",
                "retain": {"path": "rest.jsonl.gz", "split": "train"},
                "template": {"prompt": "Question: {prompt}\n", "answer": " {answer}"},
                "people": ["Ada", "Bela"],
                "secret": "Ada lives in Paris",
                "batch_size": 4,
            },
        },
        "ckpt_path": "/home/ada/last.ckpt",
    }


def parts(card: str) -> tuple[dict[str, Any], str]:
    _, front, text = card.split("---\n", 2)
    return yaml.safe_load(front), text


def test_front_matter_and_sections() -> None:
    front, text = parts(
        model_card(config(), {"stream/forget": "ab12"}, {"utility/accuracy": 0.5, "seed": 3}, "Careful.")
    )
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": "owner/name",
        "tags": ["machine-unlearning", "soul-lightning"],
    }
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# A model trained with soul-lightning", "## Recipe", "## Data", "## Metrics", "## Versions",
    ]  # fmt: skip
    for said in (
        "| stream/forget | ab12 |",
        "| utility/accuracy | 0.5 |",
        "Careful.",
        "| torch |",
        "| peft |",
        "| python |",
    ):
        assert said in text
    assert "| seed |" not in text


def test_the_recipe_is_there_without_places_and_texts() -> None:
    _, text = parts(model_card(config()))
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["seed_everything"] == 3
    assert recipe["trainer"] == {"max_epochs": 2}
    assert recipe["model"]["init_args"]["max_grad_norm"] == 1.0
    assert recipe["data"]["init_args"] == {
        "forget": "(local path)",
        "retain": {"path": "(local path)", "split": "train"},
        "template": {"prompt": "Question: {prompt}\n", "answer": " {answer}"},
        "people": ["(text)", "(text)"],
        "secret": "(text)",
        "batch_size": 4,
    }
    for hidden in ("ada", "Ada", "patients", "Paris", "Bela"):
        assert hidden not in text


@pytest.mark.parametrize(
    "place",
    ["/abs/model", "~/model", "./model", "../model", "a/b/c", "C:\\models", "s3://bucket", "rows.csv", "x.JSONL"],
)
def test_places_are_hidden(place: str) -> None:
    assert shareable({"a": {"b": [place]}}) == {"a": {"b": ["(local path)"]}}
    assert hub_name(config(pretrained_model_name_or_path=place)) is None
    assert "base_model" not in parts(model_card(config(pretrained_model_name_or_path=place)))[0]


def test_a_folder_that_looks_like_a_hub_name_is_one_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name(config()) == "owner/name"
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert hub_name(config()) is None


@pytest.mark.parametrize(
    "kept", ["packaged:tiny_world/clean", "owner/name", "gpt2", "bf16-mixed", "a.b.Class", "", "a" * 5000]
)
def test_other_names_stay(kept: str) -> None:
    assert shareable({"a": kept}) == {"a": kept}


def test_packaged_models_are_no_hub_names() -> None:
    assert hub_name(config(pretrained_model_name_or_path="packaged:tiny_world/clean")) is None
    assert hub_name(None) is None
    assert hub_name({"model": {"init_args": {"network": None}}}) is None


def test_numbers_alone_are_metrics_and_clocks_are_none() -> None:
    metrics = {
        "a/b": 1.23456789, "a/low": float("nan"), "a/none": None, "a/text": "secret", "a/seconds": 3.0,
        "a/time_share": 0.1, "plain": 4.0, "a/on": True, "a/count": 7, "odd|name/x\ny": 1.0,
    }  # fmt: skip
    _, text = parts(model_card(metrics=metrics))
    rows = text.split("| --- | --- |\n")[1].split("\n\n")[0].splitlines()
    assert rows == ["| a/b | 1.23457 |", "| a/low | not finite |", "| a/count | 7 |", "| odd/name/x y | 1 |"]


def test_a_setting_cannot_end_the_block_that_it_stands_in() -> None:
    _, text = parts(model_card({"data": {"template": {"prompt": "```\n# Not a heading"}}}))
    fence = "````"
    assert text.count(fence) == 2
    assert "# Not a heading" in text.split(fence)[1]


def test_of_nothing_there_is_a_card_too() -> None:
    front, text = parts(model_card())
    assert "## Versions" in text and "## Recipe" not in text
    assert "base_model" not in front


def test_configurations_are_read_where_there_are_any(tmp_path: Path) -> None:
    assert read_configuration(tmp_path / "none.yaml") is None
    (tmp_path / "list.yaml").write_text("- 1")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "good.yaml").write_text("a: 1")
    assert read_configuration(tmp_path / "list.yaml") is None
    assert read_configuration(tmp_path / "broken.yaml") is None
    assert read_configuration(tmp_path / "good.yaml") == {"a": 1}
