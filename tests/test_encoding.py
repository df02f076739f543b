"""Labels, truncation, padding, and the cache."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from soul_lightning.encoding import (
    EncodedExample,
    beginning_of_text,
    cache_folder,
    collate,
    cut_texts,
    encode,
    rows_hash,
)
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import IGNORE_INDEX, Example
from soul_lightning.templates import PromptTemplate
from tests.conftest import WORDS

PLAIN = PromptTemplate("{prompt}", " {answer}")
ROWS = [Example("paris", "ada lives in", 7), Example("rome and oslo .", index=3)]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def test_the_answer_and_the_end_are_labelled(tokenizer: PreTrainedTokenizerFast) -> None:
    question, text = encode(ROWS, tokenizer, PLAIN)
    assert tokenizer.decode(question.input_ids) == "<bos> ada lives in paris <eos>"
    assert tokenizer.decode(question.input_ids[question.prompt_tokens :]) == "paris <eos>"
    assert tokenizer.decode(text.input_ids[text.prompt_tokens :]) == "rome and oslo . <eos>"
    assert (question.index, text.index) == (7, 3)


def test_no_end_is_added_where_the_template_has_none(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode(ROWS[:1], tokenizer, PromptTemplate("{prompt}", " {answer}", end_of_text=False))[0]
    assert tokenizer.decode(row.input_ids) == "<bos> ada lives in paris"


def test_context_stands_before_the_prompt_without_a_label(tokenizer: PreTrainedTokenizerFast) -> None:
    row = encode([Example("paris", "ada lives in", context="bela lives in rome . ")], tokenizer, PLAIN)[0]
    assert tokenizer.decode(row.input_ids) == "<bos> bela lives in rome . ada lives in paris <eos>"
    assert tokenizer.decode(row.input_ids[row.prompt_tokens :]) == "paris <eos>"


def test_a_chat_prompt_keeps_its_one_beginning(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{{ bos_token }} {% for m in messages %}{{ m['content'] }} {% endfor %}:"
    try:
        row = encode(ROWS[:1], tokenizer, PromptTemplate(chat=True))[0]
    finally:
        tokenizer.chat_template = None
    assert row.input_ids.tolist().count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(row.input_ids[row.prompt_tokens :]) == "paris <eos>"


def test_chat_without_a_chat_template_is_one_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(MisconfigurationError, match=r"tokenizer has no chat template; turn it off"):
        encode(ROWS, tokenizer, PromptTemplate(chat=True))


def test_rows_are_cut_on_the_right_and_left_out_without_a_label(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = encode(ROWS, tokenizer, PLAIN, max_tokens=4)
    assert [row.index for row in rows] == [3]
    assert tokenizer.decode(rows[0].input_ids) == "<bos> rome and oslo"


def test_every_answer_cut_away_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(MisconfigurationError, match=r"max_tokens=4 cuts away every answer of 1 rows"):
        encode(ROWS[:1], tokenizer, PLAIN, max_tokens=4)


def test_no_rows_are_no_error(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for _ in range(2):
        assert encode([], tokenizer, PLAIN, cache_dir=tmp_path) == []


@given(
    answers=st.lists(SENTENCES, min_size=1, max_size=6),
    prompt=st.one_of(st.just(""), SENTENCES),
    cut=st.integers(3, 30),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_the_tokens_after_the_prompt_and_nowhere_else(
    tokenizer: PreTrainedTokenizerFast, answers: list[str], prompt: str, cut: int
) -> None:
    examples = [Example(answer, prompt, index) for index, answer in enumerate(answers)]
    prompt_tokens = 1 + len(prompt.split())
    if prompt_tokens >= cut:
        with pytest.raises(MisconfigurationError):
            encode(examples, tokenizer, PLAIN, cut)
        return
    rows = encode(examples, tokenizer, PLAIN, cut)
    batch = collate(rows, 0)
    assert batch.index.tolist() == list(range(len(answers)))
    assert batch.input_ids.shape[1] == max(map(len, rows)) <= cut
    for answer, ids, mask, labels in zip(answers, batch.input_ids, batch.attention_mask, batch.labels, strict=True):
        length = min(cut, prompt_tokens + len(answer.split()) + 1)
        assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
        assert (labels[:prompt_tokens] == IGNORE_INDEX).all()
        assert torch.equal(labels[prompt_tokens:length], ids[prompt_tokens:length])
        assert (labels[length:] == IGNORE_INDEX).all()


@given(lengths=st.lists(st.integers(2, 9), min_size=1, max_size=8), parts=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_micro_batches_keep_every_row_and_label(lengths: list[int], parts: int) -> None:
    rows = [EncodedExample(torch.arange(1, length + 1), 1, index) for index, length in enumerate(lengths)]
    batch = collate(rows, 0)
    pieces = list(batch.split(parts))
    assert len(pieces) <= parts
    assert torch.cat([piece.index for piece in pieces]).tolist() == list(range(len(lengths)))
    assert sum(piece.labelled_tokens for piece in pieces) == batch.labelled_tokens == sum(lengths) - len(lengths)
    assert all(bool(piece.attention_mask[:, -1].any()) for piece in pieces)


def test_no_rows_are_an_empty_batch() -> None:
    assert collate([], 0).input_ids.shape == (0, 0)
    assert all(len(piece) == 0 for piece in collate([], 0).split(2))


def equal(one: list[EncodedExample], other: list[EncodedExample]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.input_ids, b.input_ids) and (a.prompt_tokens, a.index) == (b.prompt_tokens, b.index)
        for a, b in zip(one, other, strict=True)
    )


def test_a_cache_hit_equals_a_miss(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = encode(ROWS, tokenizer, PLAIN)
    assert equal(fresh, encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr("soul_lightning.encoding._encode_pairs", None)  # a miss would call it
    assert equal(fresh, encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path))


def test_the_cache_is_keyed_by_all_that_matters(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path)
    encode(ROWS, tokenizer, PLAIN, 5, cache_dir=tmp_path)
    encode(ROWS, tokenizer, PromptTemplate("{prompt} .", " {answer}"), cache_dir=tmp_path)
    encode(ROWS, tokenizer, PromptTemplate("{prompt}", " {answer}", end_of_text=False), cache_dir=tmp_path)
    encode(ROWS[::-1], tokenizer, PLAIN, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "noise", "other rows"])
def test_a_damaged_cache_file_is_encoded_again(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    fresh = encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "other rows":
        encode(ROWS[:1], tokenizer, PLAIN, cache_dir=tmp_path / "other")
        damaged = next((tmp_path / "other").iterdir()).read_bytes()
    else:
        damaged = whole[:40] if damage == "cut" else b"\xff" * len(whole)
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert equal(fresh, encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path))
    assert "encoding again" in caplog.text
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        rows = encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path / "file" / "cache")
    assert equal(rows, encode(ROWS, tokenizer, PLAIN))
    assert "not kept" in caplog.text


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SOUL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "soul_lightning" / "encoded"


def test_texts_are_cut_after_so_many_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert cut_texts(["ada lives in rome .", "ada lives", ""], tokenizer, 2) == ["ada lives", "ada lives", ""]
    assert cut_texts([], tokenizer, 2) == []


def test_the_hash_follows_what_rows_say_and_their_order() -> None:
    assert rows_hash(ROWS) == rows_hash(list(ROWS))
    assert len({rows_hash(ROWS), rows_hash(ROWS[::-1]), rows_hash([Example("paris", "ada lives in", 8)])}) == 3
    assert len(rows_hash([Example("lone surrogate \ud800")])) == 16


def test_the_beginning_of_text_is_the_tokenizers_own(tokenizer: PreTrainedTokenizerFast) -> None:
    assert beginning_of_text(tokenizer) == [tokenizer.bos_token_id]
