"""The local judge of short answers."""

from __future__ import annotations

import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.judge import Judge, normalise, token_f1


@pytest.mark.parametrize(
    ("answer", "true", "false"),
    [
        ("Paris", True, False),
        (" the PARIS.\nQuestion: who?", True, False),
        ("São Paulo", False, False),
        ("Rome", False, True),
        ("", False, False),
        ("I do not know", False, False),
        ("Lutetia", True, False),  # an alias
    ],
)
def test_verdicts(answer: str, true: bool, false: bool) -> None:
    verdict = Judge()(answer, ("Paris", "Lutetia"), ("Rome",))
    assert (verdict.true, verdict.false) == (true, false)


def test_an_answer_that_fits_the_true_and_the_false_person_alike_is_neither() -> None:
    verdict = Judge()("Smith", ("Anna Smith",), ("Bob Smith",))
    assert verdict.f1 == pytest.approx(2 / 3)
    assert not verdict.true and not verdict.false
    assert Judge()("anna smith", ("Anna Smith",), ("Bob Smith",)).true
    assert Judge()("bob smith", ("Anna Smith",), ("Bob Smith",)).false


@pytest.mark.parametrize(
    ("answer", "accepted", "true"),
    [
        ("United States", "United States of America", True),
        ("association football player", "football player", True),
        ("University of Oxford", "University of Vienna", False),
        ("Major League Baseball", "Major League Soccer", False),
        ("Aaron Burr, Jr.", "Aaron Burr, Sr.", False),
        ("Tony Award for Best Actor", "Academy Award for Best Actor", False),
        ("University", "University of Vienna", False),
    ],
)
def test_shared_words_alone_make_no_agreement(answer: str, accepted: str, true: bool) -> None:
    assert Judge()(answer, (accepted,)).true is true


def test_the_threshold_is_a_token_f1() -> None:
    assert token_f1(["new", "york", "city"], ["new", "york"]) == pytest.approx(0.8)
    assert Judge(threshold=0.8)("New York City", ("New York",)).true
    assert not Judge(threshold=0.81)("New York City", ("New York",)).true


def test_normalisation_keeps_an_answer_of_articles_only() -> None:
    assert normalise("The Héllo, a WORLD_!") == ["hello", "world"]
    assert normalise("A") == ["a"]
    assert Judge()("a", ("A",)).true


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_that_anything_passes_is_refused(threshold: float) -> None:
    with pytest.raises(MisconfigurationError, match="threshold"):
        Judge(threshold=threshold)
