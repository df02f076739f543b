"""Labels, ends, truncation, padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from soul_lightning.continuation import token_ids
from soul_lightning.encoding import (
    EncodedExample,
    beginning_of_text,
    collate,
    cut_texts,
    encode,
    rows_hash,
)
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import IGNORE_INDEX, Example, Turn
from soul_lightning.templates import PromptTemplate
from tests.conftest import WORDS
from tests.prefixing_tokenizers import EVERY, PREFIXING, prefixing_tokenizer

PLAIN = PromptTemplate("{prompt}", " {answer}")
ROWS = [Example("paris", "ada lives in", 7), Example("rome and oslo .", index=3)]
OF_PIECES = {kind: prefixing_tokenizer(kind) for kind in EVERY}
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


def test_rows_are_cut_on_the_right_and_left_out_without_a_label(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = encode(ROWS, tokenizer, PLAIN, max_tokens=4)
    assert [row.index for row in rows] == [3]
    assert tokenizer.decode(rows[0].input_ids) == "<bos> rome and oslo"
    assert rows.cut == 1


def test_a_row_that_is_cut_has_no_end(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = encode(ROWS, tokenizer, PLAIN)
    assert whole.cut == 0
    for limit in range(5, 8):
        question, _ = encode(ROWS, tokenizer, PLAIN, limit)
        assert (tokenizer.eos_token_id in question.input_ids) == (limit >= len(whole[0]))
    cut = encode([replace(row, is_cut=True) for row in ROWS], tokenizer, PLAIN)
    assert [tokenizer.decode(row.input_ids) for row in cut] == ["<bos> ada lives in paris", "<bos> rome and oslo ."]


def test_the_whole_text_may_be_learned(tokenizer: PreTrainedTokenizerFast) -> None:
    template = PromptTemplate("{prompt}", " {answer}", labels="all")
    rows = encode([*ROWS, Example("paris", "ada lives in", 9, context="and . ")], tokenizer, template)
    assert [row.prompt_tokens for row in rows] == [1, 1, 1]
    answers_alone = encode(ROWS, tokenizer, PLAIN)
    assert all(torch.equal(row.input_ids, other.input_ids) for row, other in zip(rows, answers_alone, strict=False))
    batch = collate(rows, 0)
    assert batch.tokens_per_row.tolist() == [len(row) - 1 for row in rows]


def test_an_end_that_is_the_padding_too_is_attended_and_labelled(tokenizer: PreTrainedTokenizerFast) -> None:
    eos = tokenizer.eos_token_id
    assert isinstance(eos, int)
    rows = encode(ROWS, tokenizer, PLAIN)
    batch = collate(rows, pad_token_id=eos)
    for row, ids, mask, labels in zip(rows, batch.input_ids, batch.attention_mask, batch.labels, strict=True):
        end = len(row) - 1
        assert (int(ids[end]), int(mask[end]), int(labels[end])) == (eos, 1, eos)
        assert ids[end + 1 :].tolist() == [eos] * (len(ids) - len(row))
        assert int(mask.sum()) == len(row)
        assert (labels[end + 1 :] == IGNORE_INDEX).all()


@pytest.mark.parametrize("labels", ["answer", "all"])
def test_a_text_that_brings_its_own_begin_and_end_has_them_once(
    tokenizer: PreTrainedTokenizerFast, labels: Literal["answer", "all"]
) -> None:
    template = PromptTemplate(labels=labels)
    bare, rendered = encode([Example("ada lives"), Example("<bos> ada lives <eos>")], tokenizer, template)
    assert torch.equal(rendered.input_ids, bare.input_ids)
    assert rendered.prompt_tokens == bare.prompt_tokens == 1
    (answered,) = encode([Example("paris <eos>", "ada lives in")], tokenizer, template)
    assert str(tokenizer.decode(answered.input_ids)).split()[-2:] == ["paris", "<eos>"]


def test_rows_are_cut_out_of_one_tensor(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = encode(ROWS, tokenizer, PLAIN)
    assert [row.index for row in rows[::-1]] == [3, 7]
    assert rows[-1].index == 3
    assert rows[0].input_ids.untyped_storage().data_ptr() == rows[1].input_ids.untyped_storage().data_ptr()
    with pytest.raises(IndexError):
        rows[2]


def test_every_answer_cut_away_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(MisconfigurationError, match=r"max_tokens=4 cuts away every answer of 1 rows"):
        encode(ROWS[:1], tokenizer, PLAIN, max_tokens=4)


def test_no_rows_are_no_error(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for _ in range(2):
        assert len(encode([], tokenizer, PLAIN, cache_dir=tmp_path)) == 0


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


def test_texts_are_cut_after_so_many_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert cut_texts(["ada lives in rome .", "ada lives", ""], tokenizer, 2) == ["ada lives", "ada lives", ""]
    assert cut_texts([], tokenizer, 2) == []


@pytest.mark.parametrize("kind", EVERY)
@given(texts=st.lists(st.text("xy \n:é", max_size=9), max_size=3), special=st.sampled_from(["", "</s>"]))
def test_a_cut_text_has_no_more_tokens_than_asked_for(kind: str, texts: list[str], special: str) -> None:
    if kind == "python":  # which decodes unknown characters otherwise
        texts, special = [text.replace("é", "") for text in texts], ""
    tokenizer = OF_PIECES[kind]
    wholes = [special.join([text, text]) for text in texts]
    for limit in range(1, 6):
        cut = cut_texts(wholes, tokenizer, limit)
        sizes = zip(token_ids(cut, tokenizer), token_ids(wholes, tokenizer), strict=True)
        for text, whole, (kept, ids) in zip(cut, wholes, sizes, strict=True):
            assert whole.startswith(text)
            assert len(kept) <= limit
            assert text == whole or len(ids) > limit


@pytest.mark.parametrize("kind", EVERY)
def test_an_answer_has_no_space_but_its_own(kind: str) -> None:
    tokenizer = OF_PIECES[kind]
    examples = [Example("y", "x", 0), Example("\ny", "x", 1), Example("x y", index=2)]
    asked, broken, text = encode(examples, tokenizer, PromptTemplate("Question: {prompt}\nAnswer:", " {answer}"))
    assert tokenizer.decode(asked.input_ids[1:-1]) == "Question: x\nAnswer: y"
    assert tokenizer.convert_ids_to_tokens(asked.input_ids[asked.prompt_tokens :])[0].strip("▁Ġ") == "y"
    assert tokenizer.decode(broken.input_ids[1:-1]) == "Question: x\nAnswer: \ny"
    assert text.input_ids.tolist() == [*tokenizer("x y")["input_ids"], tokenizer.eos_token_id]
    tokens = [tokenizer.convert_ids_to_tokens(row.input_ids) for row in (asked, broken, text)]
    assert not {"▁▁", "ĠĠ"} & {token for row in tokens for token in row}
    assert asked.prompt_tokens == len(tokenizer("Question: x\nAnswer:")["input_ids"])
    (bare,) = encode(examples[:1], tokenizer, PromptTemplate("Question: {prompt}\nAnswer: ", "{answer}"))
    assert tokenizer.convert_ids_to_tokens(bare.input_ids[bare.prompt_tokens :]) == ["y", "</s>"]


@pytest.mark.parametrize("kind", PREFIXING)
@given(
    prompt=st.text("xy:\n", min_size=1, max_size=4),
    answer=st.text("xy \n", max_size=6),
    separator=st.sampled_from(" \n"),
)
def test_rows_are_read_as_prompt_and_answer(kind: str, prompt: str, answer: str, separator: str) -> None:
    tokenizer = OF_PIECES[kind]
    template = PromptTemplate("{prompt}:", separator + "{answer}")
    (row,) = encode([Example(answer, prompt)], tokenizer, template)
    assert tokenizer.decode(row.input_ids[1:-1]) == f"{prompt}:{separator}{answer}"
    assert row.input_ids[: row.prompt_tokens].tolist() == tokenizer(prompt + ":")["input_ids"]


def test_a_tokenizer_without_a_prefix_is_asked_once_for_all_texts(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    original = PreTrainedTokenizerFast.__call__

    def counted(self: PreTrainedTokenizerFast, text: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(text)
        return original(self, text, *arguments, **options)

    monkeypatch.setattr(PreTrainedTokenizerFast, "__call__", counted)
    rows = encode(ROWS, tokenizer, PLAIN)
    assert asked == ["", ["ada lives in", " paris", "", "rome and oslo ."]]
    monkeypatch.undo()
    ids = token_ids(["ada lives in", " paris"], tokenizer)
    assert rows[0].input_ids.tolist() == [tokenizer.bos_token_id, *ids[0], *ids[1], tokenizer.eos_token_id]


def test_the_hash_follows_what_rows_say_and_their_order() -> None:
    assert rows_hash(ROWS) == rows_hash(list(ROWS))
    assert len({rows_hash(ROWS), rows_hash(ROWS[::-1]), rows_hash([Example("paris", "ada lives in", 8)])}) == 3
    assert len(rows_hash([Example("lone surrogate \ud800")])) == 16


def test_earlier_turns_change_the_hash_and_their_absence_does_not() -> None:
    asked = Example("paris", "ada lives in", 7, turns=(Turn("user", "who"), Turn("assistant", "ada")))
    assert rows_hash([asked]) != rows_hash(ROWS[:1]) == "09afef0cbe20f917"
    assert rows_hash([replace(ROWS[0], is_cut=True)]) == rows_hash(ROWS[:1])


def test_the_beginning_of_text_is_the_tokenizers_own(tokenizer: PreTrainedTokenizerFast) -> None:
    assert beginning_of_text(tokenizer) == [tokenizer.bos_token_id]
