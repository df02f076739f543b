from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.claims import Origin, contrast, recovery_by_confidence, verdict
from soul_lightning.metrics.restoration import compare_restoration
from soul_lightning.scoring.answers import AnswerRow
from tests.metrics.test_restoration import people, rows

ORIGIN, OTHER = Origin("clean", "corrupted"), Origin("clean", "other")
MARKS = {
    "clean": "tttt tttt tttt",
    "corrupted": "ffff tfff t-ff",
    "npo": "tttf ttff tt-f",
    "ga": "tf-- t--- t---",
    "other": "tfff ttff ttff",
    "npo-other": "tttf ttff ttt-",
}
BEFORE = {"npo": ORIGIN, "ga": ORIGIN, "npo-other": OTHER}


def answers(marks: dict[str, str] | None = None) -> dict[str, list[AnswerRow]]:
    return {
        name: [*rows(name, people(text, "abcd")), *rows(name, people("tt t-", "ab"), role="control")]
        for name, text in (marks or MARKS).items()
    }


def test_a_contrast_within_one_corruption_is_the_tables_difference() -> None:
    tables = answers()
    found = contrast(tables, BEFORE, ["npo"], ["ga"])
    expected = compare_restoration(tables, baseline="ga").differences["npo"]
    assert (found.restoration, found.false_share, found.accuracy_control) == (
        expected.restoration, expected.false_share, expected.accuracy_control,
    )  # fmt: skip


def test_each_model_is_measured_against_its_own_corruption() -> None:
    found = contrast(answers(), BEFORE, ["npo"], ["npo-other"])
    # Of 12 facts corrupted knows 2 and other 5; npo knows 7, npo-other 8.
    assert found.restoration is not None
    assert found.restoration.value == pytest.approx((7 - 2) / (12 - 2) - (8 - 5) / (12 - 5))
    assert found.false_share.value == pytest.approx(4 / 12 - 3 / 12)
    assert found.accuracy_control == Interval(0, 0, 0)
    draws = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=2000)  # three people

    def restored(own: list[int], lost: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        known, before = draws @ np.array(own), draws @ np.array(lost)
        return np.asarray((known - before) / (12 - before))

    differences = restored([3, 2, 2], [0, 1, 1]) - restored([3, 2, 3], [1, 2, 2])
    assert (found.restoration.low, found.restoration.high) == pytest.approx(
        tuple(np.quantile(differences, [0.025, 0.975]))
    )


def test_the_mean_of_several_models_with_and_without_a_difference() -> None:
    tables = answers()
    both = contrast(tables, BEFORE, ["npo", "npo-other"], ["ga"]).restoration
    single = [contrast(tables, BEFORE, [name], ["ga"]).restoration for name in ("npo", "npo-other")]
    assert both is not None and single[0] is not None and single[1] is not None
    assert both.value == pytest.approx((single[0].value + single[1].value) / 2)
    level = contrast(tables, BEFORE, ["npo"]).restoration
    assert level == compare_restoration(tables, baseline=None).scores["npo"].restoration


def test_where_little_was_lost_there_is_no_restoration_to_compare() -> None:
    found = contrast(answers(MARKS | {"other": "tttt tttt tttf"}), BEFORE, ["npo"], ["npo-other"])
    assert found.restoration is None
    assert found.false_share.value == pytest.approx(1 / 12)
    assert verdict(found.restoration) == "unclear"


def test_other_questions_or_none_are_refused() -> None:
    tables = answers()
    with pytest.raises(MisconfigurationError, match="different questions"):
        contrast(tables | {"ga": tables["ga"][1:]}, BEFORE, ["npo"], ["ga"])
    control = {name: [row for row in own if row.role == "control"] for name, own in tables.items()}
    with pytest.raises(MisconfigurationError, match="no row of role 'corrupted'"):
        contrast(control, BEFORE, ["npo"])


def test_verdicts() -> None:
    assert verdict(Interval(0.2, 0.01, 0.4)) == "confirmed"
    assert verdict(Interval(0.02, 0.01, 0.03)) == "confirmed"
    assert verdict(Interval(-0.2, -0.4, -0.1)) == "not confirmed"
    assert verdict(Interval(0.0, -0.02, 0.04)) == "not confirmed"
    assert verdict(Interval(0.1, -0.1, 0.3)) == "unclear"
    assert verdict(Interval(0.1, float("nan"), float("nan"))) == "unclear"


def confidence_case(seed: int, people_count: int = 30) -> tuple[dict[str, list[AnswerRow]], dict[str, list[float]]]:
    """Facts that come back the more surely the surer the clean model was; every fifth was never lost."""
    generator = np.random.default_rng(seed)
    sure = generator.uniform(0.2, 1, people_count * 4)
    back = generator.uniform(size=len(sure)) < sure
    texts = {
        "clean": ["t"] * len(sure),
        "corrupted": ["t" if place % 5 == 0 else "f" for place in range(len(sure))],
        "npo": ["t" if yes else "-" for yes in back],
    }
    tables = {
        name: rows(name, people(" ".join("".join(own[place : place + 4]) for place in range(0, len(own), 4)), "abcd"))
        for name, own in texts.items()
    }
    return tables, {"sure": list(sure), "back": list(back.astype(float))}


def test_the_dependence_is_spearmans_over_the_lost_facts() -> None:
    tables, truth = confidence_case(0)
    probabilities = {row.key: sure for row, sure in zip(tables["clean"], truth["sure"], strict=True)}
    found = recovery_by_confidence(tables, ORIGIN, "npo", probabilities)
    lost = [place for place in range(120) if place % 5]
    sure, back = (np.array(truth[name])[lost] for name in ("sure", "back"))
    assert found.facts == len(lost) == 96
    assert found.correlation is not None
    assert found.correlation.value == pytest.approx(spearmanr(sure, back).statistic)
    assert found.correlation.low < found.correlation.value < found.correlation.high
    assert verdict(found.correlation) == "confirmed"
    half = np.argsort(sure)[:48]
    assert found.recovered_below == pytest.approx(back[half].mean())
    assert found.recovered_above == pytest.approx(np.delete(back, half).mean())
    # Any increasing function of the probabilities ranks the facts alike.
    cubes = {key: sure**3 for key, sure in probabilities.items()}
    assert recovery_by_confidence(tables, ORIGIN, "npo", cubes) == found


def test_people_are_resampled_not_facts() -> None:
    """Four times the same fact of each person is no more evidence than one."""
    tables, truth = confidence_case(1)
    probabilities = {row.key: sure for row, sure in zip(tables["clean"], truth["sure"], strict=True)}

    def one_person_each(name: str) -> list[AnswerRow]:
        return [replace(row, subject=str(row.index), index=row.index) for row in tables[name]]

    def four_times(name: str) -> list[AnswerRow]:
        return [
            replace(row, subject=str(row.index), index=4 * row.index + copy)
            for row in tables[name]
            for copy in range(4)
        ]

    names = ("clean", "corrupted", "npo")
    once = recovery_by_confidence({name: one_person_each(name) for name in names}, ORIGIN, "npo", probabilities)
    copied = {
        (seed, probe, 4 * index + copy): sure
        for (seed, probe, index), sure in probabilities.items()
        for copy in range(4)
    }
    often = recovery_by_confidence({name: four_times(name) for name in names}, ORIGIN, "npo", copied)
    assert once.correlation is not None and often.correlation is not None
    assert (once.correlation.low, once.correlation.high) == pytest.approx(
        (often.correlation.low, often.correlation.high)
    )


def test_without_variation_there_is_no_dependence() -> None:
    tables, truth = confidence_case(2)
    same = {row.key: 0.5 for row in tables["clean"]}
    assert recovery_by_confidence(tables, ORIGIN, "npo", same).correlation is None
    nothing = tables | {"npo": [replace(row, model="npo") for row in tables["corrupted"]]}
    probabilities = {row.key: sure for row, sure in zip(tables["clean"], truth["sure"], strict=True)}
    found = recovery_by_confidence(nothing, ORIGIN, "npo", probabilities)
    assert (found.correlation, found.recovered_below, found.recovered_above) == (None, 0, 0)
    kept = tables | {"corrupted": [replace(row, model="corrupted") for row in tables["clean"]]}
    assert recovery_by_confidence(kept, ORIGIN, "npo", probabilities).facts == 0
