"""Toxicity with a scorer whose opinion is known, and with one that learns from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import Toxicity
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.measured_rows import read_measured
from tests.callbacks.tiny_models import continued, learnt, validated
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples


def prompts(name: str, role: str, pairs: Sequence[tuple[str, str]]) -> Probe:
    return Probe(name, "prompt", [replace(row, answer="") for row in as_examples(list(pairs))], role, PLAIN)


PROVOCATIONS = prompts("provocations", "toxicity", FORGET)
HOLDOUT = prompts("holdout", "holdout", RETAIN[:3])


class DislikesTowns:
    """Says 1 of an answer with a town in it, 0.5 of a profession, 0 of all else."""

    name = "dislikes towns"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[float]:
        self.asked.append(list(texts))
        return [self.opinion(text) for text in texts]

    @staticmethod
    def opinion(text: str) -> float:
        if {"paris", "rome", "oslo"} & set(text.split()):
            return 1.0
        return 0.5 if {"baker", "pilot", "judge"} & set(text.split()) else 0.0


@pytest.fixture(scope="module")
def knowing(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that answers what it learned."""
    return learnt(tokenizer, as_examples([*FORGET, *RETAIN]))


def test_mean_and_share_are_those_of_the_answers_by_role(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    scorer = DislikesTowns()
    callback = Toxicity(scorer=scorer, max_new_tokens=4, probes=[PROVOCATIONS, HOLDOUT])
    metrics = validated(callback, knowing, tokenizer, tmp_path)
    expected = {"toxicity/fluency": 1.0}
    for probe in (PROVOCATIONS, HOLDOUT):
        answers = [continued(knowing, tokenizer, row.prompt, 4) for row in probe.examples]
        assert answers in scorer.asked
        opinions = [scorer.opinion(answer) for answer in answers]
        expected[f"toxicity/{probe.role}_mean"] = mean(opinions)
        expected[f"toxicity/{probe.role}_share"] = mean(opinion > 0.5 for opinion in opinions)
    assert metrics == pytest.approx(expected)
    assert expected["toxicity/toxicity_mean"] == pytest.approx(0.5)
    rows = read_measured(tmp_path / "rows" / "toxicity_model.jsonl")
    assert [row.values["toxicity"] for row in rows] == [scorer.opinion(str(row.values["answer"])) for row in rows]
    assert scorer.asked[0] == []  # what a scorer lacks it says before anything else is done


def test_the_threshold_says_what_is_toxic(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = Toxicity(scorer=DislikesTowns(), threshold=0.4, max_new_tokens=4, probes=[PROVOCATIONS])
    metrics = validated(callback, knowing, tokenizer, tmp_path)
    assert metrics["toxicity/toxicity_share"] == pytest.approx(4 / 6)  # two towns and two professions of six answers


def test_a_labelled_file_makes_the_default_scorer(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    labelled = tmp_path / "labelled.jsonl"
    towns, others = ["paris", "rome", "oslo"], ["baker", "pilot", "cello", "oboe"]
    rows = [{"text": word, "toxicity": float(word in towns)} for word in (*towns, *others)]
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    callback = Toxicity(labelled=str(labelled), max_new_tokens=4, probes=[PROVOCATIONS])
    metrics = validated(callback, knowing, tokenizer, tmp_path)
    scores = {str(row.values["answer"]): float(row.values["toxicity"]) for row in callback.measured["model"]}
    assert min(scores["paris"], scores["rome and oslo"]) > 0.5 > max(scores["baker"], scores["cello"], scores["oboe"])
    assert metrics["toxicity/toxicity_share"] == pytest.approx(2 / 6)


def test_fluency_is_of_the_answers_too(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A network that says one word for ever."""
    loop = [Example(" ".join(["harp"] * 8), prompt, index) for index, (prompt, _) in enumerate(FORGET)]
    network = learnt(tokenizer, loop, steps=40)
    callback = Toxicity(scorer=DislikesTowns(), max_new_tokens=8, probes=[PROVOCATIONS])
    assert validated(callback, network, tokenizer, tmp_path)["toxicity/fluency"] == 0


def test_the_note_says_whose_scores_they_are(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = Toxicity(scorer=DislikesTowns(), max_new_tokens=4, probes=[PROVOCATIONS])
    validated(callback, knowing, tokenizer, tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    assert "toxicity: the scores are those of dislikes towns" in printed
    assert "harmful advice can pass them where it is given politely" in printed


def test_rows_that_another_scorer_judged_are_refused(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"max_new_tokens": 4, "probes": [PROVOCATIONS]}
    validated(Toxicity(scorer=DislikesTowns(), **shared), knowing, tokenizer, tmp_path / "first")
    rows = tmp_path / "first" / "rows" / "toxicity_model.jsonl"
    other = DislikesTowns()
    other.name = "another"
    callback = Toxicity(scorer=other, models={"earlier": str(rows)}, **shared)
    with pytest.raises(MisconfigurationError, match=r"toxicity_model\.jsonl.* for the probe 'provocations'"):
        validated(callback, knowing, tokenizer, tmp_path / "second")
    assert not (tmp_path / "second" / "rows").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing says what is toxic; give labelled"),
        ({"scorer": DislikesTowns(), "labelled": "rows.jsonl"}, "one scorer, and both are given"),
        ({"scorer": DislikesTowns(), "threshold": 1.5}, "threshold must lie between 0 and 1, got 1.5"),
        ({"scorer": DislikesTowns(), "max_new_tokens": 0}, "max_new_tokens must be >= 1"),
        ({"scorer": DislikesTowns(), "batch_size": 0}, "batch_size must be >= 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Toxicity(**settings)


def test_questions_are_no_prompts(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    probe = Probe("questions", "question", as_examples(FORGET), "toxicity", PLAIN)
    with pytest.raises(MisconfigurationError, match=r"probes of kind prompt \(there are: questions \(question\)\)"):
        validated(Toxicity(scorer=DislikesTowns(), probes=[probe]), knowing, tokenizer, tmp_path)
