"""Restoration with arithmetic worked out by hand, and what must hold for any answers."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.restoration import RestorationShare, compare_restoration
from soul_lightning.scoring.answers import AnswerRow

Marks = Sequence[tuple[str, str, str]]


def rows(model: str, marks: Marks, role: str = "corrupted", seed: int = 0) -> list[AnswerRow]:
    """Rows from (subject, relation, mark): `t` true, `f` false, `-` neither."""
    return [
        AnswerRow(model, role, role, index, subject, relation, "?", "x", "y", mark == "t", mark == "f", "hash", seed)
        for index, (subject, relation, mark) in enumerate(marks)
    ]


def people(marks: str, relations: str = "ab") -> Marks:
    """`tt f-` gives two people with two facts each."""
    return [
        (f"person {number}", relation, mark)
        for number, facts in enumerate(marks.split())
        for relation, mark in zip(relations, facts, strict=True)
    ]


def test_worked_out_by_hand() -> None:
    comparison = compare_restoration(
        {
            # 8 facts: clean 7/8, corrupted 1/8, retain-only 3/8, unlearned 5/8
            "clean": rows("clean", people("tt tt tt t-")) + rows("clean", people("tt tt"), "control"),
            "corrupted": rows("corrupted", people("t- ff ff f-")) + rows("corrupted", people("t- t-"), "control"),
            "retain-only": rows("retain-only", people("tt t- ff f-")) + rows("retain-only", people("tt t-"), "control"),
            "unlearned": rows("unlearned", people("tt tt t- f-")) + rows("unlearned", people("tt --"), "control"),
        }
    )
    unlearned, retained = comparison.scores["unlearned"], comparison.scores["retain-only"]
    assert unlearned.accuracy_corrupted.value == 5 / 8
    assert unlearned.false_share.value == 1 / 8
    assert unlearned.accuracy_control is not None and unlearned.accuracy_control.value == 0.5
    assert unlearned.restoration is not None and unlearned.restoration.value == pytest.approx(4 / 6)
    assert retained.restoration is not None and retained.restoration.value == pytest.approx(2 / 6)
    # The clean model knew 7 facts: corrupted 1/7, unlearned 5/7 of them.
    assert unlearned.restoration_known is not None
    assert unlearned.restoration_known.value == pytest.approx((5 / 7 - 1 / 7) / (1 - 1 / 7))
    # Relation b: clean 3/4, corrupted 0, unlearned 2/4; relation a: 1, 1/4, 3/4.
    relations = {name: interval for name, interval in unlearned.per_relation.items() if interval is not None}
    assert {name: interval.value for name, interval in relations.items()} == pytest.approx({"a": 2 / 3, "b": 2 / 3})
    assert all(interval.low <= interval.value <= interval.high for interval in relations.values())
    # Person 3: clean 1/2, corrupted 0, unlearned 0.
    assert unlearned.per_entity == {"person 0": 1.0, "person 1": 1.0, "person 2": 0.5, "person 3": 0.0}
    difference = comparison.differences["unlearned"]
    assert difference.false_share.value == pytest.approx(1 / 8 - 3 / 8)
    assert difference.restoration is not None and difference.restoration.value == pytest.approx(2 / 6)
    assert difference.accuracy_control is not None and difference.accuracy_control.value == pytest.approx(-0.25)
    assert (comparison.facts, comparison.entities, comparison.control_facts, comparison.known_facts) == (8, 4, 4, 7)
    assert comparison.baseline == "retain-only" and comparison.note == ""


def test_the_interval_is_that_of_entities_not_of_facts() -> None:
    """With facts that stand and fall together, 4 people with 2 or with 50 facts each are as uncertain."""
    few = people("tt tt -- --")
    many = people(" ".join(mark * 50 for mark in "tt--"), "a" * 50)
    intervals = [
        compare_restoration({"model": rows("model", marks)}).scores["model"].accuracy_corrupted for marks in (few, many)
    ]
    assert intervals[0] == intervals[1]
    # Binomial of 4 draws with p = 1/2: P(0) = P(4) = 1/16, more than 2.5 %.
    assert (intervals[0].low, intervals[0].high) == (0.0, 1.0)


def test_the_percentiles_are_those_of_the_resampled_entities() -> None:
    generator = np.random.default_rng(1)
    marks = people(" ".join("".join(generator.choice(["t", "-"], 6)) for _ in range(20)), "abcdef")
    interval = compare_restoration({"m": rows("m", marks)}).scores["m"].accuracy_corrupted
    true = np.array([mark == "t" for _, _, mark in marks]).reshape(20, 6).mean(axis=1)
    draws = true[np.random.default_rng(2).integers(0, 20, (20_000, 20))].mean(axis=1)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.01)


def test_too_little_lost_gives_no_restoration_and_one_sentence() -> None:
    comparison = compare_restoration(
        {
            "clean": rows("clean", people("tt -- t- --")),
            "corrupted": rows("corrupted", people("-t t- -- --")),
            "unlearned": rows("unlearned", people("tt tt tt tt")),
        }
    )
    scores = comparison.scores["unlearned"]
    assert scores.restoration is None
    assert "not surely above 0" in comparison.note and comparison.note.count(".") >= 1
    assert scores.accuracy_corrupted.value == 1.0


def test_without_a_clean_model_there_is_no_restoration() -> None:
    comparison = compare_restoration({name: rows(name, people("tt --")) for name in ("corrupted", "unlearned")})
    assert comparison.scores["unlearned"].restoration is None
    assert comparison.scores["unlearned"].per_relation == {}
    assert "no clean model" in comparison.note


def test_without_control_people_there_are_no_numbers_about_them() -> None:
    models = ("clean", "corrupted", "retain-only", "unlearned")
    comparison = compare_restoration({name: rows(name, people("tt --")) for name in models})
    assert comparison.scores["unlearned"].accuracy_control is None
    assert comparison.differences["unlearned"].accuracy_control is None
    assert comparison.control_facts == 0


def test_runs_are_pooled_by_seed_and_subject() -> None:
    marks = {"clean": "tt tt tt", "corrupted": "-- f- --", "retain-only": "t- -- --", "unlearned": "tt t- --"}
    one = compare_restoration({name: rows(name, people(text)) for name, text in marks.items()})
    five = compare_restoration(
        {
            name: [row for seed in range(5) for row in rows(name, people(text), seed=seed)]
            for name, text in marks.items()
        }
    )
    assert (five.seeds, five.entities, five.facts) == (5, 15, 30)
    single, pooled = one.scores["unlearned"].restoration, five.scores["unlearned"].restoration
    assert single is not None and pooled is not None
    assert pooled.value == pytest.approx(single.value)
    assert pooled.high - pooled.low < single.high - single.low
    assert set(five.scores["unlearned"].per_entity) == {"person 0", "person 1", "person 2"}


def test_different_questions_are_refused() -> None:
    clean = rows("clean", people("tt tt"))
    with pytest.raises(MisconfigurationError, match="answered different questions"):
        compare_restoration({"clean": clean, "corrupted": clean[:-1]})
    with pytest.raises(MisconfigurationError, match="different questions"):
        compare_restoration({"clean": clean, "corrupted": [replace(row, probe_hash="other") for row in clean]})
    with pytest.raises(MisconfigurationError, match="twice"):
        compare_restoration({"clean": clean + clean})
    with pytest.raises(MisconfigurationError, match="no row of role 'corrupted'"):
        compare_restoration({"clean": rows("clean", people("tt"), "control")})
    with pytest.raises(MisconfigurationError, match="n_resamples"):
        compare_restoration({"clean": clean}, n_resamples=0)
    with pytest.raises(MisconfigurationError, match="confidence"):
        compare_restoration({"clean": clean}, confidence=1.0)


fact_marks = st.lists(
    st.tuples(
        st.sampled_from(["ada", "bela", "cora", ""]), st.sampled_from("ab"), st.tuples(*[st.sampled_from("tf-")] * 4)
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=40, deadline=None)
@given(facts=fact_marks, shuffle_seed=st.integers(0, 5))
def test_properties(facts: list[tuple[str, str, tuple[str, ...]]], shuffle_seed: int) -> None:
    names = ("clean", "corrupted", "retain-only", "unlearned")
    tables = {
        name: rows(name, [(subject, relation, marks[place]) for subject, relation, marks in facts])
        for place, name in enumerate(names)
    }
    tables["twin"] = [replace(row, model="twin") for row in tables["retain-only"]]
    comparison = compare_restoration(tables, n_resamples=200)

    shuffled = {name: random.Random(f"{shuffle_seed} {name}").sample(own, len(own)) for name, own in tables.items()}
    assert repr(compare_restoration(shuffled, n_resamples=200)) == repr(comparison)

    twin = comparison.differences["twin"]
    assert (twin.false_share.value, twin.false_share.low, twin.false_share.high) == (0, 0, 0)
    if comparison.scores["clean"].restoration is not None:
        clean, corrupted = comparison.scores["clean"].restoration, comparison.scores["corrupted"].restoration
        assert (clean.value, clean.low, clean.high) == (1, 1, 1)
        assert corrupted is not None and (corrupted.value, corrupted.low, corrupted.high) == (0, 0, 0)
        assert twin.restoration is not None and (twin.restoration.low, twin.restoration.high) == (0, 0)
    else:
        assert comparison.note
    for scores in comparison.scores.values():
        own = tables[scores.model]
        assert scores.accuracy_corrupted.value == pytest.approx(sum(row.true for row in own) / len(own))
        assert 0 <= scores.false_share.low <= scores.false_share.high <= 1


def test_two_thousand_draws_of_four_hundred_facts_are_quick() -> None:
    generator = np.random.default_rng(0)
    tables = {
        name: rows(
            name, people(" ".join("".join(generator.choice(list("tf-"), 8, p=p)) for _ in range(50)), "abcdefgh")
        )
        for name, p in (("clean", (0.9, 0, 0.1)), ("corrupted", (0.2, 0.5, 0.3)), ("unlearned", (0.5, 0.1, 0.4)))
    }
    start = time.process_time()
    compare_restoration(tables)
    assert time.process_time() - start < 1


share_facts = st.lists(
    st.tuples(st.integers(0, 120), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30
)


@settings(max_examples=40, deadline=None)
@given(facts=share_facts, lost=st.booleans(), seed=st.integers(0, 5))
def test_the_class_gives_what_the_comparison_gives(
    facts: list[tuple[int, bool, bool, bool]], lost: bool, seed: int
) -> None:
    marks = [(own[0], own[1] or lost, own[2] and not lost, own[3]) for own in facts]
    tables = {
        name: rows(name, [(str(own[0]), "a", "t" if own[place] else "-") for own in marks])
        for place, name in enumerate(("clean", "corrupted", "unlearned"), start=1)
    }
    expected = compare_restoration(tables, n_resamples=200, baseline=None).scores["unlearned"].restoration
    metric = RestorationShare(n_resamples=200)
    moved = random.Random(seed).sample(marks, len(marks))
    for part in (moved[:2], moved[2:]):
        clean, corrupted, unlearned = ([bool(own[place]) for own in part] for place in (1, 2, 3))
        metric.update(clean, corrupted, unlearned, entities=[own[0] for own in part])
    found = metric.compute().item()
    assert found == pytest.approx(expected.value if expected is not None else float("nan"), nan_ok=True)
    assert not (lost and np.isnan(found))


def test_the_class_needs_facts() -> None:
    metric = RestorationShare()
    metric.update([], [], [], [])
    with pytest.raises(MisconfigurationError, match="RestorationShare has no facts"):
        metric.compute()
    with pytest.raises(MisconfigurationError, match="2 of clean, 1 of corrupted"):
        metric.update([True, True], [True], [True, True], [1, 1])
