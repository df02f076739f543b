"""No name out of a configuration or a record leads out of its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from soul_lightning.callbacks import HuggingFaceExport, Memorization, Restoration, Utility
from soul_lightning.cli.recipe_files import packaged_recipe
from soul_lightning.cli.stages import check_name
from soul_lightning.datamodules.restor_files import find_documents
from soul_lightning.datamodules.tofu import TOFUDataModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.file_names import check_file_name
from soul_lightning.files import replaced_when_written
from soul_lightning.networks.loading import resolve_source
from soul_lightning.records.sources import RecordSource, read_records
from soul_lightning.run_folder import new_run_folder
from tests.conftest import make_trainer

ESCAPES = ["..", ".", "../x", "/etc/x", "a/../../x", "x\0y", "x\ny", "..\\x", "", "  ", "x" * 300]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leads_elsewhere_is_refused_at_every_entrance(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.json").write_text('["a text"]')
    entrances: list[Any] = [
        lambda: check_file_name(name, "a name"),
        lambda: Memorization(name=name),
        lambda: Utility(models={name: "packaged:tiny_world/clean"}),
        lambda: Restoration(models={name: "packaged:tiny_world/clean"}),
        lambda: check_name(name, "a stage"),
        lambda: find_documents(tmp_path / "folder", name),
        lambda: TOFUDataModule(cast(Any, name), folder=str(tmp_path / "folder")),
        lambda: TOFUDataModule(holdout=cast(Any, name), folder=str(tmp_path / "folder")),
        lambda: packaged_recipe(name),
        lambda: resolve_source(f"packaged:{name}"),
    ]
    for number, entrance in enumerate(entrances):
        if name in (".", "..", "x\ny", "x" * 300) and number in (2, 3):
            continue  # a model's name stands between a callback's and an ending
        with pytest.raises(MisconfigurationError):
            entrance()
    if name != "a/../../x":
        with pytest.raises(MisconfigurationError, match="the recipe's name"):
            new_run_folder(name, tmp_path)


@pytest.mark.parametrize("name", ["npo", "retain-only", "mix_a0", "a.b", "größe", "two words", "..x"])
def test_ordinary_names_pass(name: str) -> None:
    assert check_file_name(name, "a name") == name


def test_stages_have_run_folders_of_two_parts(tmp_path: Path) -> None:
    assert new_run_folder("recipe/stage", tmp_path).parent == tmp_path / "recipe" / "stage"
    with pytest.raises(MisconfigurationError, match="the recipe's name"):
        new_run_folder("recipe/../../stage", tmp_path)


def test_a_file_takes_the_place_of_a_link_and_leaves_its_target_alone(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "rows.jsonl").symlink_to(target)
    with replaced_when_written(tmp_path / "rows.jsonl") as temporary:
        temporary.write_text("rows")
    assert target.read_text() == "precious"
    assert not (tmp_path / "rows.jsonl").is_symlink()


def test_an_export_does_not_go_through_a_link_into_a_filled_folder(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    (tmp_path / "export").symlink_to(tmp_path / "precious")
    trainer: Any = make_trainer(tmp_path)
    with pytest.raises(MisconfigurationError, match="is not empty"):
        HuggingFaceExport().on_train_start(trainer, None)  # type: ignore[arg-type]
    assert (tmp_path / "precious" / "file").read_text() == "precious"


ELSEWHERE = ["../secret.jsonl", "ABSOLUTE/secret.jsonl", "inner/../../secret.jsonl"]


@pytest.mark.parametrize("named", ELSEWHERE)
@pytest.mark.parametrize("first_rows", [None, 1])
def test_a_data_folder_has_no_files_read_that_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, first_rows: int | None
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "secret.jsonl").write_text(json.dumps({"text": "a secret"}) + "\n")
    folder = tmp_path / "given"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "rows.jsonl").write_text(json.dumps({"text": "a text"}) + "\n")
    files = named.replace("ABSOLUTE", str(tmp_path))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: '{files}'\n---\n")
    with pytest.raises(MisconfigurationError) as refused:
        read_records(RecordSource(str(folder), first_rows=first_rows), "forget")
    assert "secret.jsonl" in str(refused.value)
    assert "a secret" not in str(refused.value)


def test_a_data_folder_may_name_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "given"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "rows.jsonl").write_text(json.dumps({"text": "a text"}) + "\n")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: 'inner/*.jsonl'\n---\n")
    assert read_records(RecordSource(str(folder)), "forget").texts("text") == ["a text"]
    monkeypatch.chdir(tmp_path)
    assert read_records(RecordSource("./given"), "forget").texts("text") == ["a text"]
