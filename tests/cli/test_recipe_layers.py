"""Recipes on layers: what is merged, what is written down, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from soul_lightning.cli.recipe_files import Recipe, config_arguments, find_recipe, name_of
from soul_lightning.cli.recipe_layers import Section, read_section
from soul_lightning.cli.recipe_writing import written
from soul_lightning.exceptions import MisconfigurationError
from tests.cli.conftest import Run, write_rows
from tests.conftest import FORGET, RETAIN

BASE = """\
# Below
model:
  class_path: UnlearningModule    # the module
  init_args:
    optimizer: {class_path: Sophia, init_args: {lr: 1.0e-5, rho: 0.04}}
    retain: {class_path: CrossEntropy}
data: {class_path: A, init_args: {folder: x, rows: 3}}
trainer:
  max_epochs: 5    # passes
  # why these
  callbacks:    # at the end
    - Utility    # kept
    # - Other
    - class_path: B
      init_args: {number: &n 3, other: *n}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def composed(folder: Path, text: str, origins: bool = False) -> str:
    (folder / "own.yaml").write_text(dedent(text))
    return find_recipe(str(folder / "own.yaml")).composed(origins=origins)


def test_what_a_recipe_says_goes_on_top_of_its_layers(folder: Path) -> None:
    text = composed(folder, """\
        # Mine
        layers: [base.yaml]
        model: {init_args: {optimizer: {init_args: {lr: 3.0e-5}}}}
        data: {class_path: B, init_args: {rows: 4}}
        trainer: {callbacks: [Memorization]}
    """)  # fmt: skip
    assert text.startswith("# Mine\nmodel:\n")
    config = yaml.safe_load(text)
    assert config["model"]["init_args"]["optimizer"] == {"class_path": "Sophia", "init_args": {"lr": 3e-5, "rho": 0.04}}
    assert config["data"] == {"class_path": "B", "init_args": {"rows": 4}}  # of another class: nothing of the first
    assert config["trainer"] == {"max_epochs": 5, "callbacks": ["Memorization"]}  # a list replaces a list


def test_later_layers_win_and_none_is_changed(folder: Path) -> None:
    (folder / "other.yaml").write_text("trainer: {max_epochs: 7}\ndata: {init_args: {rows: 9}}\n")
    text = composed(folder, "# Mine\nlayers: [base.yaml, other.yaml]\n")
    assert yaml.safe_load(text)["trainer"]["max_epochs"] == 7
    assert yaml.safe_load(text)["data"] == {"class_path": "A", "init_args": {"folder": "x", "rows": 9}}
    assert (folder / "base.yaml").read_text() == BASE


def test_comments_and_numbers_stay_as_they_were_written(folder: Path) -> None:
    text = composed(folder, "# Mine\nlayers: [base.yaml]\n")
    assert yaml.safe_load(text) == yaml.safe_load(BASE)
    assert "{class_path: Sophia, init_args: {lr: 1.0e-5, rho: 0.04}}" in text
    for line in ("  class_path: UnlearningModule", "  max_epochs: 5", "  callbacks:"):
        assert line in text
    for comment in ("# the module", "# passes", "# why these", "# at the end", "# kept", "# - Other"):
        assert comment in text
    assert "Below" not in text


def test_each_part_says_where_it_is_from(folder: Path) -> None:
    text = composed(folder, "# Mine\nlayers: [base.yaml]\ntrainer: {max_epochs: 7}\n", origins=True)
    lines = {line.split(":")[0].strip(): line for line in text.splitlines() if ":" in line}
    assert lines["model"].endswith("[base.yaml]") and "[" not in lines["class_path"].partition("#")[2]
    assert lines["max_epochs"].endswith("[own]") and lines["callbacks"].endswith("[base.yaml]")
    assert yaml.safe_load(text)["trainer"]["max_epochs"] == 7


def test_stages_and_what_they_share_have_layers_of_their_own(folder: Path) -> None:
    (folder / "network.yaml").write_text("model: {init_args: {network: {dtype: bfloat16}}}\n")
    text = composed(folder, """\
        # Mine
        fit: {layers: [base.yaml]}
        stages:
          npo:
            layers: [network.yaml]
            model: {class_path: UnlearningModule}
          edit: {model: {class_path: LocateAndEditModule, init_args: {layers: [2]}}}
    """)  # fmt: skip
    config = yaml.safe_load(text)
    assert config["fit"]["trainer"]["max_epochs"] == 5
    assert config["stages"]["npo"]["model"]["init_args"] == {"network": {"dtype": "bfloat16"}}
    assert config["stages"]["edit"]["model"]["init_args"] == {"layers": [2]}  # a setting of that name is none


def test_anchors_and_merges_are_written_out(folder: Path) -> None:
    text = composed(folder, """\
        # Mine
        layers: [base.yaml]
        stages:
          one: &one {trainer: &steps {max_steps: 3}, data: {rows: [1, 2]}}
          two: {<<: *one, trainer: {<<: *steps, max_epochs: 1}}
    """)  # fmt: skip
    assert "*" not in text.partition("stages:")[2] and "&" not in text.partition("stages:")[2]
    stages = yaml.safe_load(text)["stages"]
    assert stages["two"] == {"trainer": {"max_steps": 3, "max_epochs": 1}, "data": {"rows": [1, 2]}}


def test_a_list_that_refers_to_another_part_is_written_anew() -> None:
    def no_layer(name: str) -> Section:
        raise AssertionError(name)

    section = read_section("a: &a 3\nb:\n  - *a\n  - 4\n", "own", no_layer)
    assert yaml.safe_load(written(section, origins=False)) == {"a": 3, "b": [3, 4]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers: [nowhere]\n", "no recipe 'nowhere'"),
        ("layers: tofu\n", "layers must be a list of names"),
        ("layers: [3]\n", "layers must be a list of names"),
        ("layers: [own.yaml]\n", "stands on itself"),
        ("- 1\n", "must hold keys and values"),
        ("a: [1\n", "is no YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_composed_is_one_sentence(folder: Path, text: str, message: str) -> None:
    (folder / "own.yaml").write_text(text)
    with pytest.raises(MisconfigurationError, match=message):
        Recipe("own.yaml", folder / "own.yaml").section()


def test_layers_in_any_order_make_one_configuration() -> None:
    names = ["model/smollm2", "data/tofu-smollm2", "objective/npo", "optimizer/sophia-smollm2"]
    there, back = (config_arguments([find_recipe(name) for name in order]) for order in (names, names[::-1]))
    assert yaml.safe_load(there[1]) == yaml.safe_load(back[1])
    assert name_of([find_recipe(name) for name in names]) == "layers"


def test_a_layer_after_a_recipe_changes_its_method(run: Run, tmp_path: Path, model_folder: Path) -> None:
    rows = {"forget": write_rows(tmp_path / "f.jsonl", FORGET), "retain": write_rows(tmp_path / "r.jsonl", RETAIN)}
    outcome = run(
        "fit", "--config", "records", "--config", "objective/simnpo", "--config", "optimizer/adamw",
        *(f"--data.{name}={path}" for name, path in rows.items()), "--trainer.max_steps=1", "--trainer.accelerator=cpu",
        f"--model.network.pretrained_model_name_or_path={model_folder}", "--trainer.default_root_dir=run",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert text.startswith("# a run of the recipe records\n")
    model = yaml.safe_load(text)["model"]["init_args"]
    assert model["forget"]["class_path"].endswith("SimNPO") and model["optimizer"]["class_path"].endswith("AdamW")
    assert model["curvature"] is None and model["retain_weight"] == 1.0
