"""Pages that quote measurements have no number that the record of the results does not have."""

from __future__ import annotations

import re

import pytest

from soul_lightning import objectives
from tests.docs.pages import DOCS

MEASURED = re.compile(r"[−+]?\.\d\d \[[^\]]+\]")


@pytest.mark.parametrize(("page", "least"), [("objectives.md", 80), ("limits.md", 4)])
def test_every_number_stands_in_the_results(page: str, least: int) -> None:
    measured = MEASURED.findall((DOCS / page).read_text())
    results = (DOCS / "results.md").read_text()
    assert len(measured) >= least
    assert not [number for number in measured if number not in results]


def test_every_objective_stands_in_a_table() -> None:
    page = (DOCS / "objectives.md").read_text()
    assert not [name for name in objectives.__all__ if name != "Objective" and f"| `{name}` |" not in page]
