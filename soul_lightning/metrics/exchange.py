"""Tests by exchange: what a statistic would be if other subjects had the answers, or the other model the numbers.

A model that never saw what is asked of some subjects is no better off with the right answers than with those of others
in their places. How high a statistic then gets, the highest of many layers included, is seen by trying it (Fisher 1935;
the maximum of many statistics: Westfall & Young 1993), whatever the model prefers to say and however few rows it has.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Array, entity_codes

Integers = NDArray[np.int64]
ROUNDING = 1e-9
"""Two sums of the same numbers may differ by their order."""


def preferences_by_exchange(
    scores: Array, answers: Integers, relations: Sequence[Hashable], subjects: Sequence[Hashable]
) -> Array:
    """How each row would rank each answer of its relation among those of other subjects.

    Args:
        scores: [rows, answers] of every distinct answer for every row.
        answers: [rows] number of the row's own answer among them; −1 where it cannot be scored.
        relations: [rows] what is asked; answers to other relations are not compared.
        subjects: [rows] whom it is asked of.

    Returns:
        [rows, rows] at (i, j): the share of answers to j's relation, those of j's subject left out, that row i scores
        below j's answer, equal ones counting one half; not a number where there is none. The diagonal has the rows'
        own: an area under the curve a row, of which 0.5 is expected by chance.
    """
    found = np.full((len(answers), len(answers)), np.nan)
    relation_codes, n_relations = entity_codes(relations)
    subject_codes, _ = entity_codes(subjects)
    for relation in range(n_relations):
        rows = np.flatnonzero(relation_codes == relation)
        known = rows[answers[rows] >= 0]
        own = scores[np.ix_(rows, answers[known])]
        if not own.size:
            continue
        below = rankdata(own, axis=1) - 0.5  # how many are lower, and half of those that are equal, itself included
        for subject in np.unique(subject_codes[known]):
            columns = np.flatnonzero(subject_codes[known] == subject)
            others = len(known) - len(columns)
            same = own[:, columns]
            within = (same[:, :, None] > same[:, None, :]) + 0.5 * (same[:, :, None] == same[:, None, :])
            if others:
                found[np.ix_(rows, known[columns])] = (below[:, columns] - within.sum(axis=2)) / others
    return found


def exchanges(relations: Sequence[Hashable], subjects: Sequence[Hashable], count: int, seed: int) -> Integers:
    """Draw whose answers each row has, answers moving from subject to subject within their relation.

    All answers of a subject move together to one that is asked the same relations as often, so that what they have to
    do with one another stays. Where nobody else is asked the same, those to each relation move by themselves.

    Args:
        relations: [rows] what is asked.
        subjects: [rows] whom it is asked of.
        count: So many draws.
        seed: Of the draws.

    Returns:
        [draws, rows] the row whose answer each row has.
    """
    by_subject: dict[Hashable, list[int]] = {}
    for row in sorted(range(len(relations)), key=lambda row: repr(relations[row])):
        by_subject.setdefault(subjects[row], []).append(row)
    alike = _alike(list(by_subject.values()), relations)
    together = [units for units in alike if len(units) > 1]
    parts = [
        [row for row in unit if relations[row] == relation]
        for units in alike
        if len(units) == 1
        for unit in units
        for relation in dict.fromkeys(relations[row] for row in unit)
    ]
    drawn = np.tile(np.arange(len(relations)), (count, 1))
    rng = np.random.default_rng(seed)
    for units in [*together, *_alike(parts, relations)]:
        places = np.array(units)
        order = rng.permuted(np.tile(np.arange(len(places)), (count, 1)), axis=1)
        drawn[:, places.ravel()] = places[order].reshape(count, -1)
    return drawn


def _alike(units: Sequence[list[int]], relations: Sequence[Hashable]) -> list[list[list[int]]]:
    found: dict[tuple[Hashable, ...], list[list[int]]] = {}
    for unit in units:
        found.setdefault(tuple(relations[row] for row in unit), []).append(unit)
    return list(found.values())


def exchanged_means(preferences: Array, drawn: Integers) -> Array:
    """[draws] the mean of [rows, rows] `preferences` over the rows where they have the answers of `drawn`."""
    moved: Array = np.nanmean(preferences[np.arange(len(preferences)), drawn], axis=1)
    return moved


def swapped_means(differences: Array, entities: Sequence[Hashable], count: int, seed: int) -> Array:
    """What means of differences between two models are if the models change places, entity by entity.

    Args:
        differences: [rows, statistics] of two models' numbers on the same rows.
        entities: [rows] whose differences change their sign together.
        count: So many draws.
        seed: Of the draws.

    Returns:
        [draws, statistics].
    """
    codes, n_entities = entity_codes(entities)
    sums = np.zeros((n_entities, differences.shape[1]))
    np.add.at(sums, codes, differences)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(count, n_entities))
    means: Array = signs @ sums / len(differences)
    return means


def ceiling(drawn: Array, confidence: float = 0.95) -> float:
    """What a statistic exceeds by chance with a probability of at most (1 − `confidence`) / 2, exactly.

    Args:
        drawn: [draws] the statistic, exchanged; its highest value over many where the highest is looked at.
        confidence: Of a two-sided interval, whose lower side this is.

    Raises:
        MisconfigurationError: There are too few draws to say.
    """
    place = math.ceil((1 + confidence) / 2 * (len(drawn) + 1) - ROUNDING)
    if place > len(drawn):
        raise MisconfigurationError(
            f"{len(drawn)} draws cannot hold a confidence of {confidence}; draw more, or lower the confidence"
        )
    return float(np.sort(drawn)[place - 1]) + ROUNDING
