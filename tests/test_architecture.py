"""Arrows point one way: core <- callbacks, core <- datamodules, all <- cli."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"callbacks": {"callbacks"}, "datamodules": {"datamodules"}, "cli": {"callbacks", "datamodules", "cli"}}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms_used(path: Path) -> set[str]:
    return {room for room in ROOMS for name in imported(path) if name.startswith(f"soul_lightning.{room}")}


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if not any(p.is_symlink() for p in path.parents))


def test_the_core_imports_no_room() -> None:
    files = sources("soul_lightning")
    assert len(files) > 20
    assert {str(path): rooms_used(path) for path in files if rooms_used(path)} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_it_may(room: str) -> None:
    files = sources(room)
    assert files
    assert {str(path): rooms_used(path) - ROOMS[room] for path in files if rooms_used(path) - ROOMS[room]} == {}


def test_the_rooms_are_symlinks_into_the_package() -> None:
    for room in ROOMS:
        link = ROOT / "soul_lightning" / room
        assert link.is_symlink()
        assert str(link.readlink()) == f"../{room}"


def test_datamodules_import_neither_modules_nor_callbacks() -> None:
    used = {name for path in sources("datamodules") for name in imported(path)}
    assert not {name for name in used if name.startswith("soul_lightning.modules")}


def test_every_package_is_listed_for_the_wheel() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for name in ("soul_lightning", *ROOMS) for path in sources(name)}
    expected = {
        ".".join(folder.parts if folder.parts[0] == "soul_lightning" else ("soul_lightning", *folder.parts))
        for folder in folders
    }
    assert listed == expected
