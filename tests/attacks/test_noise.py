"""Slips of the pen change a share of the letters, and no names."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.attacks.noise import noisy

TEXT = "in which old town was Maria ada-lovelace born and raised, in the year x1815?"


@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 1.0))
def test_names_and_numbers_stay(seed: int, share: float) -> None:
    found = noisy(TEXT, share, "Ada Lovelace", Random(seed))
    assert found == noisy(TEXT, share, "Ada Lovelace", Random(seed))
    for word in ("Maria", "ada-lovelace", "x1815?", "in "):
        assert word in found
    assert len(found.split(" ")) == len(TEXT.split(" "))


def edits(before: str, after: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(after) + 1))
    for number, one in enumerate(before, start=1):
        last, row[0] = row[0], number
        for place, other in enumerate(after, start=1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (one != other))
    return row[-1]


@pytest.mark.parametrize(("share", "slips"), [(0.01, 1), (0.1, 5), (0.2, 10)])
def test_so_many_letters_are_changed(share: float, slips: int) -> None:
    text = "abcdefghij klmnopqrst abcdefghij klmnopqrst abcdefghij"  # no two neighbours alike
    for seed in range(30):
        assert 1 <= edits(text, noisy(text, share, "", Random(seed))) <= 2 * slips  # a swap counts as two
    assert max(edits(text, noisy(text, share, "", Random(seed))) for seed in range(30)) >= slips


def test_nothing_that_may_change() -> None:
    assert noisy("Who is Ada ?", 0.5, "Ada", Random(0)) == "Who is Ada ?"
    assert noisy("", 0.5, "", Random(0)) == ""
