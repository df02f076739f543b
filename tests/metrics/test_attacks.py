"""True positives at a rate of false ones against scikit-learn's curve, and the SVC attack on sets made for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve
from sklearn.svm import SVC

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.attacks import (
    CorrectnessAttack,
    TruePositiveRate,
    correctness_attack,
    true_positive_rate,
)
from soul_lightning.metrics.bootstrap import Array

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25)
rates = st.floats(0, 1) | st.fractions(0, 1, max_denominator=25).map(float)


@given(forget=scores, holdout=scores, rate=rates)
def test_equals_the_best_point_of_the_curve(forget: list[float], holdout: list[float], rate: float) -> None:
    members = [1] * len(forget) + [0] * len(holdout)
    false, true, _ = roc_curve(members, [-score for score in (*forget, *holdout)], drop_intermediate=False)
    assert true_positive_rate(forget, holdout, rate) == pytest.approx(true[false <= rate].max())


@given(forget=scores, holdout=scores, rate=rates)
def test_the_rate_is_never_exceeded(forget: list[float], holdout: list[float], rate: float) -> None:
    found = true_positive_rate(forget, holdout, rate)
    # On the holdout itself true positives are false ones.
    assert true_positive_rate(holdout, holdout, rate) <= rate
    assert true_positive_rate(forget, holdout, 0.0) <= found <= true_positive_rate(forget, holdout, 1.0) == 1


def test_at_one_percent_of_a_hundred_rows_one_may_be_wrong() -> None:
    holdout = [float(score) for score in range(100)]
    assert true_positive_rate([0.5, 1.0, 0.0, -1.0], holdout) == 0.75  # below 1, the second lowest
    assert true_positive_rate([0.5, 1.0, 0.0, -1.0], holdout[:99]) == 0.25  # below 0, the lowest
    assert true_positive_rate([28.5, 29.0], holdout, 0.29) == 0.5  # 0.29 · 100 is a little less than 29


def test_ties_are_not_members() -> None:
    assert true_positive_rate([1.0, 1.0], [1.0, 1.0, 2.0], 0.5) == 0
    assert true_positive_rate([1.0, 1.0], [1.0, 1.0, 2.0], 0.7) == 1
    assert true_positive_rate([-math.inf], [-math.inf, 0.0]) == 0
    assert true_positive_rate([-math.inf, 0.0], [0.0, math.inf]) == 0.5


def normal(center: float, rows: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(center, 1.0, rows)


def test_the_attack_tells_what_is_remembered_from_what_is_forgotten() -> None:
    retain, holdout = normal(0, 60, 0), normal(6, 60, 1)
    remembered, forgotten = (correctness_attack(normal(at, 40, 2), retain, holdout) for at in (0, 6))
    assert remembered.forget_as_holdout < 0.1 and forgotten.forget_as_holdout > 0.9
    assert min(remembered.shadow_accuracy, forgotten.shadow_accuracy) > 0.95


def test_where_retain_is_like_holdout_the_attack_says_so() -> None:
    assert correctness_attack(normal(0, 40, 2), normal(0, 200, 0), normal(0, 200, 1)).shadow_accuracy < 0.65


def test_equal_sets_as_they_are_give_the_numbers_of_soul() -> None:
    """Its code: labels 1 for retain and 0 for test, and 1 − the mean label that forget rows get."""
    retain, holdout, forget = normal(0, 50, 0), normal(1.5, 50, 1), normal(0.5, 40, 2)
    machine = SVC(C=3, gamma="auto", kernel="rbf")
    features, labels = np.concatenate([retain, holdout])[:, None], np.repeat([1, 0], 50)
    machine.fit(features, labels)
    found = correctness_attack(forget, retain, holdout, standardize=False)
    assert found.forget_as_holdout == pytest.approx(1 - machine.predict(forget[:, None]).mean())
    assert found.shadow_accuracy == pytest.approx(machine.score(features, labels))


def test_units_and_direction_change_nothing() -> None:
    sets = normal(0.5, 40, 2), normal(0, 50, 0), normal(2, 70, 1)
    expected = correctness_attack(*sets)
    for factor, shift in ((1024.0, 0.0), (2.0**-10, 1.0)):
        assert correctness_attack(*(factor * each + shift for each in sets)) == expected


def test_without_standardising_small_numbers_are_parted_by_one_threshold() -> None:
    retain, holdout = normal(0, 60, 0), np.concatenate([normal(-6, 30, 1), normal(6, 30, 2)])
    small = [each / 1000 for each in (retain[:20], retain, holdout)]
    assert correctness_attack(*small).shadow_accuracy > 0.95
    assert correctness_attack(*small, standardize=False).shadow_accuracy < 0.8


def test_the_order_of_rows_changes_nothing_and_the_seed_draws() -> None:
    forget, retain, holdout = normal(0.5, 40, 2), normal(0, 30, 0), normal(1, 90, 1)
    found = correctness_attack(forget, retain, holdout)
    assert correctness_attack(forget[::-1], retain[::-1], holdout[::-1]) == found
    assert len({correctness_attack(forget, retain, holdout, seed=seed) for seed in range(8)}) > 1


def test_the_larger_set_is_no_safer_guess() -> None:
    """Unbalanced, the machine would call nearly everything a member."""
    retain, holdout, fresh = normal(0, 900, 0), normal(1.5, 60, 1), normal(1.5, 300, 2)
    assert correctness_attack(fresh, retain, holdout).forget_as_holdout > 0.6


def test_one_value_for_all_is_no_error() -> None:
    assert correctness_attack([1.0], [1.0, 1.0], [1.0, 1.0]).shadow_accuracy == 0.5


def test_the_classes_are_the_functions() -> None:
    forget, retain, holdout = (normal(at, 20, at).tolist() for at in (1, 0, 2))
    rate, attack = TruePositiveRate(0.1), CorrectnessAttack(standardize=False, seed=3)
    rate.update(forget[:5])
    rate.update(forget[5:], holdout)
    attack.update(forget, retain_scores=retain[:7])
    attack.update(retain_scores=retain[7:], holdout_scores=holdout)
    assert rate.compute().item() == true_positive_rate(forget, holdout, 0.1)
    expected = correctness_attack(forget, retain, holdout, standardize=False, seed=3)
    assert attack.compute()["forget_as_holdout"].item() == expected.forget_as_holdout
    assert attack.compute()["shadow_accuracy"].item() == expected.shadow_accuracy


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_sets_and_rates_that_mean_nothing_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="the holdout set of the membership attack is empty"):
        true_positive_rate([1.0], [])
    with pytest.raises(MisconfigurationError, match=r"the forget set .* has 1 of 2 scores that are no numbers"):
        true_positive_rate([math.nan, 1.0], [1.0])
    with pytest.raises(MisconfigurationError, match=r"the retain set .* has 1 of 1 scores that are no finite numbers"):
        correctness_attack([1.0], [math.inf], [1.0])
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(MisconfigurationError, match="false_positive_rate must lie between 0 and 1"):
            true_positive_rate([1.0], [1.0], rate)
        with pytest.raises(MisconfigurationError, match="false_positive_rate must lie between 0 and 1"):
            TruePositiveRate(rate)
    with pytest.raises(MisconfigurationError, match="the forget set of the membership attack is empty"):
        CorrectnessAttack().compute()
