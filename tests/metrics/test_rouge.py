"""ROUGE, worked out by hand and against the definition."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.rouge import RougeL, RougeScores, Statistic, rouge_l

# Words that the stemmer leaves alone.
phrases = st.lists(st.sampled_from("lan mek nor pis rud".split()), max_size=8)


def common_subsequence(one: list[str], other: list[str]) -> int:
    """Length of the longest one, by the recursion of its definition."""
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + common_subsequence(one[:-1], other[:-1])
    return max(common_subsequence(one[:-1], other), common_subsequence(one, other[:-1]))


def only(scores: RougeScores) -> tuple[float, float, float, float]:
    (recall,), (precision,), (f1,), (unigrams,) = scores.recall, scores.precision, scores.f1, scores.unigram_recall
    return float(recall), float(precision), float(f1), float(unigrams)


def test_worked_out_by_hand() -> None:
    # "the … bird" of five words said and four true ones; "red" was said too, but before.
    assert only(rouge_l(["red the small blue bird"], ["the tame red bird"])) == pytest.approx(
        (2 / 4, 2 / 5, 4 / 9, 3 / 4)
    )


@given(answer=phrases, truth=phrases)
def test_equals_the_definition(answer: list[str], truth: list[str]) -> None:
    length = common_subsequence(answer, truth)
    shared = sum(min(answer.count(word), truth.count(word)) for word in set(truth))
    recall, precision, f1, unigrams = only(rouge_l([" ".join(answer)], [" ".join(truth)]))
    assert recall == pytest.approx(length / len(truth) if truth else 0)
    assert precision == pytest.approx(length / len(answer) if answer else 0)
    assert f1 == pytest.approx(2 * length / (len(answer) + len(truth)) if length else 0)
    assert unigrams == pytest.approx(shared / len(truth) if truth else 0)
    assert recall <= unigrams <= 1


@given(rows=st.lists(st.tuples(phrases.map(" ".join), phrases.map(" ".join)), min_size=1, max_size=6))
def test_each_row_is_scored_by_itself(rows: list[tuple[str, str]]) -> None:
    together = rouge_l(*map(list, zip(*rows, strict=True)))
    for place, (answer, truth) in enumerate(rows):
        alone = rouge_l([answer], [truth])
        for name in ("recall", "precision", "f1", "unigram_recall"):
            assert getattr(together, name)[place] == getattr(alone, name)[0]


def test_words_are_stemmed_and_have_no_case_or_punctuation() -> None:
    assert only(rouge_l(["The Birds, sang!"], ["the bird sang"])) == (1, 1, 1, 1)
    assert only(rouge_l(["running"], ["runs"]))[0] == 1


def test_what_has_no_word_of_a_to_z_scores_nothing() -> None:
    for answer, truth in (("", "oslo"), ("oslo", ""), ("{{{{", "oslo"), ("東京", "東京")):
        assert only(rouge_l([answer], [truth])) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [("recall", (1 / 2 + 1) / 2), ("precision", (1 + 3 / 5) / 2), ("f1", (2 / 3 + 3 / 4) / 2)],
)
def test_the_metric_is_the_mean_over_rows(statistic: Statistic, expected: float) -> None:
    metric = RougeL(statistic)
    metric.update(["lan"], ["lan mek"])
    metric.update([], [])
    metric.update(["lan mek nor pis rud"], ["mek nor pis"])
    assert metric.compute().item() == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_rows_and_statistics_that_mean_nothing_are_refused() -> None:
    for answers in ([], ["lan"]):
        with pytest.raises(MisconfigurationError, match=f"got {len(answers)} answers and 0 true ones"):
            rouge_l(answers, [])
    with pytest.raises(MisconfigurationError, match="got 1 answers and 0 true ones"):
        RougeL().update(["lan"], [])
    with pytest.raises(MisconfigurationError, match="statistic must be 'recall', 'precision' or 'f1', got 'mean'"):
        RougeL(cast(Any, "mean"))
    with pytest.raises(MisconfigurationError, match="at least one row"):
        RougeL().compute()
