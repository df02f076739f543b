"""The page of the objectives names all of them, and no number that the results do not have."""

from __future__ import annotations

import re

from soul_lightning import objectives
from tests.docs.pages import DOCS

PAGE = (DOCS / "objectives.md").read_text()
MEASURED = re.compile(r"[−+]?\.\d\d \[[^\]]+\]")


def test_every_objective_stands_in_a_table() -> None:
    assert not [name for name in objectives.__all__ if name != "Objective" and f"| `{name}` |" not in PAGE]


def test_every_number_stands_in_the_results() -> None:
    measured = MEASURED.findall(PAGE)
    results = (DOCS / "results.md").read_text()
    assert len(measured) > 80
    assert not [number for number in measured if number not in results]
