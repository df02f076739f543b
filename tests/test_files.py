"""Files are whole or not there, whoever else writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soul_lightning.files import folder_replaced_when_written, remove_leftovers, replaced_when_written


def test_writers_with_one_process_number_do_not_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in two containers with one folder
    path = tmp_path / "folder" / "rows"
    with replaced_when_written(path) as one, replaced_when_written(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one.read_text() == "one"
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["rows"]


def test_what_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("old")
    with pytest.raises(ValueError, match="broken off"), replaced_when_written(path) as temporary:
        temporary.write_text("half")
        raise ValueError("broken off")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    for text in ("old", "new"):
        with folder_replaced_when_written(folder) as temporary:
            (temporary / text).write_text(text)
    assert [path.name for path in folder.iterdir()] == ["new"]
    with pytest.raises(ValueError, match="broken off"), folder_replaced_when_written(folder) as temporary:
        (temporary / "half").write_text("half")
        raise ValueError("broken off")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_old_folder_comes_back_where_the_new_one_cannot_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replace = tmp_path / "export", os.replace
    with folder_replaced_when_written(folder) as temporary:
        (temporary / "old").write_text("old")
    names: list[Path] = []

    def once_refused(old: Path, new: Path) -> None:
        names.append(new)
        if names.count(folder) == 1 and new == folder:
            raise OSError("refused")
        replace(old, new)

    monkeypatch.setattr(os, "replace", once_refused)
    with pytest.raises(OSError, match="refused"), folder_replaced_when_written(folder) as temporary:
        (temporary / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_only_what_was_left_half_written_is_removed(tmp_path: Path) -> None:
    mark = "0123456789abcdef" * 2
    kept = [tmp_path / "rows", tmp_path / ".rows.tmp", tmp_path / f"rows.{mark}.tmp"]
    for path in (*kept, tmp_path / f".rows.{mark}.tmp", tmp_path / f".export.{mark}.tmp" / "weights"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    remove_leftovers(tmp_path, tmp_path / "nowhere")
    assert sorted(tmp_path.iterdir()) == sorted(kept)
