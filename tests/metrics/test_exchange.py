"""Statistics by exchange against enumeration, and against numbers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Array
from soul_lightning.metrics.exchange import (
    ceiling,
    exchanged_means,
    exchanges,
    preferences_by_exchange,
    swapped_means,
)


def by_loops(scores: Array, answers: list[int], relations: list[str], subjects: list[str]) -> Array:
    rows = range(len(answers))
    found = np.full((len(answers), len(answers)), np.nan)
    for i, j in itertools.product(rows, rows):
        others = [k for k in rows if relations[k] == relations[j] and subjects[k] != subjects[j] and answers[k] >= 0]
        if relations[i] == relations[j] and answers[j] >= 0 and others:
            own = scores[i, answers[j]]
            worse = [float(own > scores[i, answers[k]]) + 0.5 * float(own == scores[i, answers[k]]) for k in others]
            found[i, j] = sum(worse) / len(worse)
    return found


def test_ties_count_one_half() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 5.0]])
    found = preferences_by_exchange(scores, np.array([0, 1, 2]), ["home"] * 3, ["ada", "bela", "cora"])
    # ada: above both; bela: level with the first, above the last; cora: above the first, level with the second.
    assert np.diagonal(found).tolist() == [1.0, 0.75, 0.75]


def test_equal_answers_of_two_subjects_are_a_tie() -> None:
    scores = np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    found = preferences_by_exchange(scores, np.array([0, 1, 1]), ["home"] * 3, ["ada", "bela", "cora"])
    assert np.diagonal(found).tolist() == [1.0, 0.75, 0.75]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_ranks_give_what_comparing_each_pair_gives(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (rows, 4)).astype(np.float64)
    answers = rng.integers(-1, 4, rows)
    relations = [f"r{n}" for n in rng.integers(0, 2, rows)]
    subjects = [f"s{n}" for n in rng.integers(0, 4, rows)]
    found = preferences_by_exchange(scores, answers, relations, subjects)
    np.testing.assert_allclose(found, by_loops(scores, answers.tolist(), relations, subjects))


def test_the_mean_over_all_exchanges_is_one_half_whatever_is_preferred() -> None:
    scores = np.tile([5.0, 1.0, 2.0, 2.0], (4, 1))  # the same answer is liked best whoever is asked of
    found = preferences_by_exchange(scores, np.arange(4), ["home"] * 4, list("abcd"))
    every = np.array(list(itertools.permutations(range(4))))
    assert exchanged_means(found, every).tolist() == pytest.approx([0.5] * len(every))


def test_answers_of_a_subject_move_together() -> None:
    relations, subjects = ["home", "job", "job", "home", "home", "job"], ["a", "a", "b", "b", "c", "c"]
    drawn = exchanges(relations, subjects, 200, seed=0)
    homes, jobs = drawn[:, [0, 3, 4]], drawn[:, [1, 2, 5]]
    assert {tuple(row) for row in homes} == set(itertools.permutations((0, 3, 4)))
    partner = {0: 1, 3: 2, 4: 5}
    assert all(partner[home] == job for row in range(200) for home, job in zip(homes[row], jobs[row], strict=True))


def test_where_nobody_is_asked_the_same_each_relation_moves_by_itself() -> None:
    relations, subjects = ["home", "job", "home", "pet"], ["a", "a", "b", "b"]
    drawn = exchanges(relations, subjects, 50, seed=0)
    assert {tuple(row) for row in drawn} == {(0, 1, 2, 3), (2, 1, 0, 3)}


def test_models_change_places_entity_by_entity() -> None:
    differences = np.array([[1.0], [2.0], [4.0]])
    means = swapped_means(differences, ["a", "a", "b"], 100, seed=0)
    assert set(np.round(means[:, 0] * 3, 9)) == {7.0, 1.0, -1.0, -7.0}


def test_the_ceiling_leaves_what_the_confidence_leaves() -> None:
    drawn = np.arange(39.0)  # 40 with what was observed: of these 1, a 2.5 % share, may lie above
    assert ceiling(drawn, 0.95) == pytest.approx(38.0, abs=1e-6)
    assert ceiling(drawn, 0.90) == pytest.approx(37.0, abs=1e-6)
    with pytest.raises(MisconfigurationError, match=r"38 draws cannot hold a confidence of 0\.95"):
        ceiling(np.arange(38.0), 0.95)
