"""Answer rows: judged, written whole, read back, and refused where they answer something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.judge import Judge
from soul_lightning.progress import listening
from soul_lightning.protocols import Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.answers import AnswerRow, answer_probe, check_rows, read_rows, write_rows
from tests.conftest import FORGET, PLAIN, as_examples
from tests.test_progress import Heard

PROBE = Probe("corrupted", "question", as_examples(FORGET), "corrupted", PLAIN)


@pytest.fixture
def rows(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[AnswerRow]:
    return answer_probe(CausalLMAdapter(tiny_network, tokenizer), PROBE, Judge(), model="clean", max_new_tokens=3)


def test_every_question_is_answered_and_judged(rows: list[AnswerRow]) -> None:
    assert [(row.index, row.subject, row.prompt, row.truth) for row in rows] == [
        (index, prompt.split()[0], prompt, answer) for index, (prompt, answer) in enumerate(FORGET)
    ]
    assert {row.probe_hash for row in rows} == {rows_hash(PROBE.examples)}
    assert {(row.model, row.probe, row.role) for row in rows} == {("clean", "corrupted", "corrupted")}
    for row, example in zip(rows, PROBE.examples, strict=True):
        verdict = Judge()(row.answer, example.accepted, example.perturbed)
        assert (row.true, row.false) == (verdict.true, verdict.false)


def test_progress_is_told_of_every_answer(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    heard = Heard()
    with listening(heard):
        answer_probe(CausalLMAdapter(tiny_network, tokenizer), PROBE, Judge(), model="clean", max_new_tokens=3)
    assert heard.works == [("asking", len(PROBE.examples), "questions")]
    assert sum(heard.done) == len(PROBE.examples)


def test_rows_come_back_as_they_were_written(rows: list[AnswerRow], tmp_path: Path) -> None:
    odd = [replace(rows[0], answer='line\nbreak \u2028 "é"', seed=3), *rows[1:]]
    path = tmp_path / "deep" / "rows.jsonl"
    write_rows(path, odd)
    write_rows(path, odd)
    assert read_rows(path) == odd
    assert [file.name for file in path.parent.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("{", "line 1 .*not JSON"),
        ("[]", "a list in place of an object"),
        ('{"model": "m"}', "probe is missing"),
        ('{"model": 3}', "missing|model is 3"),
    ],
)
def test_broken_files_are_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(MisconfigurationError, match=message):
        read_rows(path)


def test_wrong_fields_are_refused(rows: list[AnswerRow], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, rows[:1])
    record = json.loads(path.read_text())
    for change, message in (({"true": 1}, "true is 1"), ({"colour": "red"}, "colour is unknown")):
        path.write_text(json.dumps(record | change))
        with pytest.raises(MisconfigurationError, match=message):
            read_rows(path)
    with pytest.raises(MisconfigurationError, match="cannot be read"):
        read_rows(tmp_path / "none.jsonl")


def test_rows_of_other_questions_are_refused(rows: list[AnswerRow]) -> None:
    assert check_rows(rows[::-1], [PROBE], "a file") == rows
    changed = replace(PROBE, examples=[*PROBE.examples[:-1], replace(PROBE.examples[-1], answer="harp")])
    with pytest.raises(MisconfigurationError, match=r"a file had hash .* other questions"):
        check_rows(rows, [changed], "a file")
    with pytest.raises(MisconfigurationError, match="a file had no answer to question 5"):
        check_rows(rows[:-1], [PROBE], "a file")
