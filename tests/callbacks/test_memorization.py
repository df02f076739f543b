"""Memorization against numbers from one forward pass a row."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from statistics import mean

import pytest
from rouge_score.rouge_scorer import RougeScorer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import Memorization
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Probe
from soul_lightning.scoring.measured_rows import MeasuredRow, read_measured
from tests.callbacks.tiny_models import Said, continued, learnt, said, validated
from tests.conftest import FORGET, PLAIN, TinyDataModule, as_examples, make_network, make_trainer

ROWS = as_examples(FORGET)
QUESTIONS = Probe("forget", "question", ROWS, "forget", PLAIN)
TEXTS = replace(QUESTIONS, kind="text")
ASKED = Probe("asked", "question", ROWS, "forget", PLAIN, rows_of="forget")


@pytest.fixture(scope="module")
def half_way(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that knows some of the forget rows and not others."""
    return learnt(tokenizer, ROWS, steps=12)


def test_a_model_that_never_spoke_has_not_forgotten_how_to() -> None:
    def rows(share: float) -> list[MeasuredRow]:
        values = [{"fluent": n < share * 100} for n in range(100)]
        return [MeasuredRow("asked", "forget", n, f"p{n}", "", dict(own)) for n, own in enumerate(values)]

    callback = Memorization()

    def said(**models: float) -> tuple[str, str]:
        callback.measured = {name.replace("_", "-"): rows(share) for name, share in models.items()}
        (finding,) = callback.findings()
        return finding.verdict, finding.measure

    assert said(after=0.95, before=1.0) == ("yes", "share of answers that are language")
    assert said(after=0.4) == ("no", "share of answers that are language")
    assert said(after=0.4, before=0.4) == ("yes", "share of answers that are language, less that of the model before")
    assert said(after=0.4, retain_only=0.9)[0] == "no"
    assert said(after=0.7, before=1.0, retain_only=0.7)[0] == "no"


def test_where_no_reference_is_known_the_model_before_is_asked() -> None:
    callback = Memorization()
    callback.compare_with(None, "before")
    assert callback.models == {"original": "before"}
    callback = Memorization()
    callback.compare_with("never", "before")
    assert callback.models == {"retain-only": "never"}


def extraction_strength_by_hand(row: Said) -> float:
    return len(list(takewhile(bool, reversed(row.hits)))) / row.tokens


def test_every_number_is_the_mean_over_rows(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    metrics = validated(Memorization(probes=[QUESTIONS], max_new_tokens=2), half_way, tokenizer, tmp_path)
    alone = [said(half_way, tokenizer, row.prompt, row.answer) for row in ROWS]
    answers = [continued(half_way, tokenizer, row.prompt, 2) for row in ROWS]
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    rouge = [scorer.score(row.answer, answer)["rougeL"] for row, answer in zip(ROWS, answers, strict=True)]
    expected = {
        "probability": mean(row.probability for row in alone),
        "exact_memorization": mean(mean(row.hits) for row in alone),
        "extraction_strength": mean(map(extraction_strength_by_hand, alone)),
        "rouge_l": mean(each.recall for each in rouge),
        "rouge_l_f1": mean(each.fmeasure for each in rouge),
        "fluency": mean(bool(answer) for answer in answers),  # names and towns are words, whatever is said of whom
    }
    assert metrics == {f"memorization/{name}": pytest.approx(value, abs=1e-4) for name, value in expected.items()}
    assert all(0 < metrics[f"memorization/{name}"] < 1 for name in expected)
    assert expected["rouge_l"] < expected["rouge_l_f1"]  # an answer that was broken off has said nothing wrong
    rows = read_measured(tmp_path / "rows" / "memorization_model.jsonl")
    assert [row.values["answer"] for row in rows] == answers
    assert [row.values["tokens"] for row in rows] == [row.tokens for row in alone]


def test_one_is_where_all_is_kept_and_training_says_so(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    known = validated(Memorization(probes=[QUESTIONS], max_new_tokens=4), learnt(tokenizer, ROWS), tokenizer, tmp_path)
    unknown = validated(Memorization(probes=[QUESTIONS], max_new_tokens=4), tiny_network, tokenizer, tmp_path)
    for name in ("exact_memorization", "extraction_strength", "rouge_l", "rouge_l_f1", "fluency"):
        assert known[f"memorization/{name}"] == 1
        assert unknown[f"memorization/{name}"] < 1
    assert known["memorization/probability"] > 0.9 > unknown["memorization/probability"]


def test_texts_are_answered_where_their_rows_are_asked(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    both = validated(Memorization(probes=[TEXTS, ASKED], max_new_tokens=3), half_way, tokenizer, tmp_path)
    assert both == validated(Memorization(probes=[QUESTIONS], max_new_tokens=3), half_way, tokenizer, tmp_path)
    texts = validated(Memorization(probes=[TEXTS]), half_way, tokenizer, tmp_path)
    names = ("probability", "exact_memorization", "extraction_strength")
    assert set(texts) == {f"memorization/{name}" for name in names}


def test_choices_have_an_accuracy_of_their_own(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    options = [replace(row, perturbed=("rome", "pilot", "oboe")) for row in ROWS]
    quiz = Probe("quiz", "multiple_choice", [options[0], options[2], options[4]], "forget", PLAIN)
    metrics = validated(Memorization(probes=[QUESTIONS, quiz], answer=False), half_way, tokenizer, tmp_path)
    right = []
    for row in quiz.examples:
        costs = [said(half_way, tokenizer, row.prompt, text).mean_nll for text in (row.answer, *row.perturbed)]
        right.append(costs[0] < min(costs[1:]))
    assert metrics["memorization/quiz_accuracy"] == pytest.approx(mean(right))
    without = validated(Memorization(probes=[QUESTIONS], answer=False), half_way, tokenizer, tmp_path)
    assert {name: metrics[name] for name in without} == without


def test_rows_that_are_cut_away_count_nowhere(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Four tokens hold `<bos> ada lives in`, and of a shorter prompt the answer's beginning."""
    short = replace(ROWS[0], prompt="ada lives", index=9)
    probe = replace(TEXTS, examples=[*ROWS, short])
    callback = Memorization(probes=[probe], max_tokens=4, rows="parquet")
    metrics = validated(callback, half_way, tokenizer, tmp_path)
    rows = read_measured(tmp_path / "rows" / "memorization_model.parquet")
    assert [row.index for row in rows if "probability" in row.values] == [9]
    assert len(rows) == len(probe.examples)
    assert metrics["memorization/probability"] == pytest.approx(float(rows[-1].values["probability"]))


def test_no_forget_rows_are_said_before_training(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, callbacks=[Memorization(probes=[replace(QUESTIONS, role="retain")])])
    module = UnlearningModule(make_network(len(tokenizer)), retain=CrossEntropy(), tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match=r"needs texts or questions of the role forget, and .*: retain"):
        trainer.fit(module, TinyDataModule())
    assert trainer.global_step == 0
