"""What counts as the same row and as the same fact."""

from __future__ import annotations

import pytest

from soul_lightning.datamodules.overlap import fact_keys, find_overlap
from soul_lightning.protocols import Example, Fact


def test_rows_and_facts_are_counted_apart() -> None:
    lives = Fact("Ada", "lives in", "Rome")
    forget = [
        Example("rome", "ada lives in", facts=(lives,)),
        Example("In Rome lives Ada.", facts=(lives,)),
        Example("oslo", "bela lives in", facts=(Fact("Bela", "lives in", "Oslo"),)),
    ]
    retain = [Example("Ada is of Rome.", facts=(Fact(" ADA", "Lives in", "rome "),)), Example("oslo", "bela lives in")]
    found = find_overlap(forget, retain)
    assert (found.rows, found.of_rows, found.facts, found.of_facts) == (1, 3, 1, 2)
    assert found
    assert str(found) == "1 of 3 forget rows and 1 of 2 forget facts also stand in the retain stream"


def test_nothing_shared_is_false() -> None:
    assert not find_overlap([Example("rome")], [Example("oslo")])


@pytest.mark.parametrize("other", ["who is ada", " Who  is\nAda?", "“Who is Ada?”", "Who is Ａda?"])
def test_case_punctuation_and_white_space_do_not_matter(other: str) -> None:
    found = find_overlap([Example("A pilot.", "Who is Ada?")], [Example("a pilot", other)])
    assert found.rows == 0
    assert found.facts == 1


@pytest.mark.parametrize(("one", "other"), [("C++", "C#"), ("2+2", "2-2"), ("5 %", "5 €"), ("😀", "🚀"), ("小", "大")])
def test_signs_that_tell_texts_apart_are_kept(one: str, other: str) -> None:
    assert not find_overlap([Example("x", f"what is {one}")], [Example("x", f"what is {other}")])


def test_a_row_with_facts_is_not_also_compared_by_its_text() -> None:
    assert fact_keys([Example("text", facts=(Fact("a", "b", "c"),))]) == {("a", "b", "c")}
