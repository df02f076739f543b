"""A text behind another is encoded as in the joined text: with no space that is only put before whole texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from soul_lightning.continuation import adds_prefix, continuation_ids, token_ids
from tests.prefixing_tokenizers import EVERY, PREFIXING, fast, prefixing_tokenizer

OF_LETTERS = {kind: prefixing_tokenizer(kind, pieces=()) for kind in EVERY}
OF_PIECES = {kind: prefixing_tokenizer(kind) for kind in EVERY}
TEXTS = st.lists(st.sampled_from(["x", "y", " ", "\n", ":", "<s>", "</s>"]), max_size=8).map("".join)
ORDINARY = st.text("xy \n:", max_size=8)


def pieces(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in continuation_ids(texts, tokenizer)]


@pytest.mark.parametrize("kind", PREFIXING)
def test_a_text_behind_another_has_only_its_own_space(kind: str) -> None:
    found = [
        text.translate({ord("Ġ"): "▁", ord("Ċ"): "\n"}) for text in pieces([" y", "y", "", "\nx"], OF_PIECES[kind])
    ]
    assert found == ["▁y", "y", "", "\n x"]


@pytest.mark.parametrize("kind", EVERY)
@given(before=TEXTS, text=TEXTS)
def test_ids_are_those_of_the_joined_text_where_no_token_can_straddle(kind: str, before: str, text: str) -> None:
    tokenizer = OF_LETTERS[kind]
    whole, start = token_ids([before + text, before], tokenizer)
    assert start + continuation_ids([text], tokenizer, [start])[0] == whole


@pytest.mark.parametrize("kind", PREFIXING)
@given(before=ORDINARY.filter(lambda text: text[:1] not in ("", " ")), text=ORDINARY)
def test_joined_ids_are_read_as_the_joined_text(kind: str, before: str, text: str) -> None:
    tokenizer = OF_PIECES[kind]
    start = token_ids([before], tokenizer)
    assert tokenizer.decode(start[0] + continuation_ids([text], tokenizer, start)[0]) == before + text


def test_a_beginning_and_what_follows_a_special_token_are_the_tokenizers_own() -> None:
    before = [[], [1], [5, 1], [1, 5]]
    for kind, expected in {"prepend": ["▁y", "▁y", "▁y", "y"], "first": ["▁y", "y", "y", "y"]}.items():
        ids = continuation_ids(["y"] * 4, OF_PIECES[kind], before)
        assert [" ".join(OF_PIECES[kind].convert_ids_to_tokens(row)) for row in ids] == expected


def test_an_unknown_token_is_no_special_token_before_a_text() -> None:
    for tokenizer in OF_PIECES.values():
        assert continuation_ids(["y"], tokenizer, [[0]]) == [[tokenizer.convert_tokens_to_ids("y")]]


def test_added_tokens_are_found_as_the_tokenizer_finds_them() -> None:
    for kind in PREFIXING:
        tokenizer = prefixing_tokenizer(kind, pieces=())
        tokenizer.add_tokens([AddedToken("xyx", normalized=False), AddedToken("<turn>", special=True, rstrip=True)])
        tokenizer.add_tokens(["yy"])
        for before, text in [("x", "xyx"), ("x", ":xyx y<turn> x"), ("x", " yy"), ("x<turn>", "y"), ("x<turn>", " y")]:
            whole, start = token_ids([before + text, before], tokenizer)
            assert start + continuation_ids([text], tokenizer, [start])[0] == whole, (kind, text)
        assert len(continuation_ids(["<turn>"], tokenizer)[0]) == 1
        tokenizer.split_special_tokens = True
        assert len(continuation_ids(["</s>"], tokenizer)[0]) > 1


def test_the_tokenizer_itself_stays_as_it_is() -> None:
    for kind in ("prepend", "always", "bytes"):
        tokenizer = prefixing_tokenizer(kind)
        state, ids = tokenizer.backend_tokenizer.to_str(), token_ids(["y y"], tokenizer)
        continuation_ids(["y y"], tokenizer)
        assert tokenizer.backend_tokenizer.to_str() == state
        assert token_ids(["y y"], tokenizer) == ids


def test_only_tokenizers_that_add_a_space_are_asked_otherwise(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [kind for kind in EVERY if adds_prefix(OF_PIECES[kind])] == list(PREFIXING)
    assert not adds_prefix(tokenizer)
    assert continuation_ids(["ada lives"], tokenizer) == token_ids(["ada lives"], tokenizer)


def words_marked_by_metaspace(scheme: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(OF_PIECES["never"].backend_tokenizer.to_str())
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Sequence(steps)])
    return fast(backend)


def test_a_space_that_marks_every_word_stays() -> None:
    marks = words_marked_by_metaspace("always")
    assert not adds_prefix(marks)
    assert pieces([" x y"], marks) == ["▁x ▁y"]
    assert pieces(["x"], words_marked_by_metaspace("first")) == ["x"]


def test_a_text_that_grows_together_with_what_is_put_before_it_is_encoded_as_it_is() -> None:
    grows = prefixing_tokenizer("python", pieces=("▁x", "\nx"))
    assert pieces(["x", "y"], grows) == ["▁x", "y"]
    assert pieces(["x<s>y", "y<s>y"], prefixing_tokenizer("prepend", ("▁x", "\nx"))) == ["x <s> y", "y <s> ▁ y"]


def test_unknown_letters_are_not_lost_to_an_unknown_line_break() -> None:
    tokenizer = prefixing_tokenizer("prepend", pieces=(), letters="xy")
    tokenizer.add_tokens(["yy"])
    assert pieces(["zy"], tokenizer) == ["▁ <unk> y"]


def test_no_texts_have_no_ids() -> None:
    for tokenizer in OF_PIECES.values():
        assert continuation_ids([], tokenizer, []) == continuation_ids([], tokenizer) == []
