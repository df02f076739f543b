"""Releases that are known to be bad cannot be installed beside this package, and SECURITY.md says so."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BAD = [
    ("lightning", "2.6.2"),
    ("lightning", "2.6.3"),
    ("lightning", "2.6.0"),
    ("torch", "2.5.1"),
    ("torch", "2.9.1"),
    ("transformers", "5.2.0"),
    ("datasets", "3.6.0"),
    ("scikit-learn", "1.4.2"),
    ("pyarrow", "23.0.0"),
    ("jsonargparse", "4.52.0"),
    ("PyYAML", "5.3.1"),
]


@pytest.mark.parametrize(("package", "version"), BAD)
def test_a_bad_release_is_excluded_and_named(package: str, version: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = [each for each in map(Requirement, project["dependencies"]) if each.name == package]
    assert not asked.specifier.contains(version)
    assert f"| {package} |" in (ROOT / "SECURITY.md").read_text()
