"""BLEU, against numbers worked out by hand, the definition, and sacrebleu's own score."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics import bleu
from soul_lightning.metrics.bleu import Bleu, corpus_bleu, require_sacrebleu, restoration_bleu
from soul_lightning.scoring.answers import AnswerRow

phrases = st.lists(st.sampled_from("lan mek nor pis rud".split()), min_size=4, max_size=7).map(" ".join)
corpora = st.lists(st.tuples(phrases, phrases), min_size=1, max_size=6)


def definition(answers: list[str], truths: list[str]) -> float | None:
    """Papineni et al. 2002 with one reference and no smoothing; none where a precision is 0."""

    def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    logs = []
    for n in range(1, 5):
        pairs = [(grams(answer, n), grams(truth, n)) for answer, truth in zip(answers, truths, strict=True)]
        hits = sum(min(count, truth[gram]) for answer, truth in pairs for gram, count in answer.items())
        if not hits:
            return None
        logs.append(math.log(hits / sum(answer.total() for answer, _ in pairs)))
    said, true = (sum(len(text.split()) for text in texts) for texts in (answers, truths))
    return 100 * min(1.0, math.exp(1 - true / said)) * math.exp(sum(logs) / 4)


def test_values_worked_out_by_hand() -> None:
    # p = 4/5, 3/4, 2/3, 1/2: their product is 1/5, its fourth root .66874.
    assert corpus_bleu(["lan mek nor pis rud"], ["lan mek nor pis sal"]) == pytest.approx(66.8740, abs=1e-4)
    # Every n-gram is right and a fifth word is missing: exp(1 − 5/4).
    assert corpus_bleu(["lan mek nor pis"], ["lan mek nor pis rud"]) == pytest.approx(100 * math.exp(-0.25))
    # p = 4/5, 2/4, then no hit among 3 and 2, counted as 1/2 and 1/4 of one: 1/6, 1/8. The root of 1/120 is .30214.
    assert corpus_bleu(["lan mek sal pis rud"], ["lan mek nor pis rud"]) == pytest.approx(30.2138, abs=1e-4)
    assert corpus_bleu(["lan mek nor"], ["lan mek nor"]) == 0  # nothing of four tokens


@given(corpus=corpora)
def test_equals_the_definition_and_sacrebleus_own_score(corpus: list[tuple[str, str]]) -> None:
    answers, truths = (list(texts) for texts in zip(*corpus, strict=True))
    score = corpus_bleu(answers, truths)
    assert 0 <= score <= 100 + 1e-9
    assert score == BLEU().corpus_score(answers, [truths]).score
    expected = definition(answers, truths)
    if expected is not None:
        assert score == pytest.approx(expected)


@given(corpus=corpora, parts=st.integers(1, 3), ends=st.lists(st.sampled_from(["", ".", " ,", "\n"]), max_size=6))
def test_the_class_adds_counts_up_to_sacrebleus_score(
    corpus: list[tuple[str, str]], parts: int, ends: list[str]
) -> None:
    answers, truths = (list(texts) for texts in zip(*corpus, strict=True))
    for place, end in enumerate(ends[: len(answers)]):
        answers[place] += end
    metric = Bleu()
    for part in range(parts):
        metric.update(answers[part::parts], truths[part::parts])
    assert metric.compute().item() == BLEU().corpus_score(answers, [truths]).score == corpus_bleu(answers, truths)


def test_an_empty_answer_costs_the_class_what_it_costs_sacrebleu() -> None:
    answers, truths = ["", "lan mek nor pis rud"], ["lan mek", "lan mek nor pis rud"]
    metric = Bleu()
    metric.update(answers, truths)
    assert metric.compute().item() == BLEU().corpus_score(answers, [truths]).score < 100


@given(corpus=corpora)
def test_the_truth_scores_highest_and_the_order_of_rows_does_not_matter(corpus: list[tuple[str, str]]) -> None:
    answers, truths = (list(texts) for texts in zip(*corpus, strict=True))
    assert corpus_bleu(truths, truths) == pytest.approx(100)
    assert corpus_bleu(answers[::-1], truths[::-1]) == pytest.approx(corpus_bleu(answers, truths))


def test_what_cannot_be_scored() -> None:
    for answers in ([], ["lan"]):
        with pytest.raises(MisconfigurationError, match=f"got {len(answers)} answers and 0 true ones"):
            corpus_bleu(answers, [])
    metric = Bleu()
    with pytest.raises(MisconfigurationError, match="got 1 answers and 0 true ones"):
        metric.update(["lan"], [])
    metric.update([], [])
    with pytest.raises(MisconfigurationError, match="got 0 answers"):
        metric.compute()


def test_without_sacrebleu_a_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_sacrebleu()
    monkeypatch.setattr(bleu, "find_spec", lambda name: None)
    with pytest.raises(MisconfigurationError, match=r"pip install 'soul-lightning\[eval\]'"):
        corpus_bleu(["lan"], ["lan"])
    with pytest.raises(MisconfigurationError, match="BLEU needs the package sacrebleu"):
        Bleu()


TRUTH = "lan mek nor pis rud"
ROW = AnswerRow("clean", "p", "corrupted", 0, "s", "r", "?", TRUTH, TRUTH, True, False, "hash")


def rows(model: str, answer: str) -> list[AnswerRow]:
    return [replace(ROW, model=model, answer=answer), replace(ROW, model=model, probe="c", role="control")]


def test_restoration_of_bleu() -> None:
    wrong, better = "lan sal nor pis rud", "lan mek nor pis sal"
    low, high = corpus_bleu([wrong], [TRUTH]), corpus_bleu([better], [TRUTH])
    said = {"clean": TRUTH, "corrupted": wrong, "npo": f" {better}\nlan"}
    scores = restoration_bleu({model: rows(model, answer) for model, answer in said.items()})
    assert scores["corrupted"] == pytest.approx({"bleu_corrupted": low, "bleu_control": 100, "bleu_restoration": 0})
    assert scores["clean"]["bleu_restoration"] == pytest.approx(1)
    assert scores["npo"]["bleu_corrupted"] == pytest.approx(high)  # cut at the end of the line
    assert scores["npo"]["bleu_restoration"] == pytest.approx((high - low) / (100 - low))
    whole = restoration_bleu({"npo": rows("npo", said["npo"])}, cut_at="")
    assert (whole["npo"]["bleu_corrupted"] or 0) < high


def test_where_there_is_nothing_to_restore() -> None:
    for said in ({"npo": TRUTH}, {"clean": TRUTH, "npo": TRUTH}, {"clean": TRUTH, "corrupted": TRUTH, "npo": TRUTH}):
        scores = restoration_bleu({model: rows(model, answer) for model, answer in said.items()})
        assert scores["npo"]["bleu_restoration"] is None
    alone = restoration_bleu({"clean": rows("clean", TRUTH)[:1]})
    assert alone["clean"]["bleu_control"] is None
