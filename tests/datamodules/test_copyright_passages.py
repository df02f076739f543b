"""Passages: whole tokens, whole characters, no two over the same text."""

from __future__ import annotations

import logging

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from soul_lightning.continuation import token_ids
from soul_lightning.datamodules.copyright_documents import Document
from soul_lightning.datamodules.copyright_passages import PassageCutter
from soul_lightning.exceptions import MisconfigurationError
from tests.datamodules.text_world import book


@pytest.fixture(scope="module")
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: a character beyond ASCII takes several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_passages_are_neighbouring_whole_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [Document("a", book(300, 1)), Document("b", book(100, 2))]
    passages = PassageCutter(tokenizer, (4, 9), 5).cut(documents, 20)
    assert [passage.part[0] for passage in passages] == ["a"] * 15 + ["b"] * 5
    sizes = [tuple(map(len, token_ids([passage.prompt, passage.continuation], tokenizer))) for passage in passages]
    assert {after for _, after in sizes} == {5}
    assert {before for before, _ in sizes} <= set(range(4, 10))
    assert len({before for before, _ in sizes}) > 3


def test_places_do_not_overlap_and_are_spread(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    text = "".join(f"{number:04d}" for number in range(500))
    passages = PassageCutter(bytes_tokenizer, (4, 8), 12).cut([Document("a", text)], 80)
    starts = [text.index(passage.prompt + passage.continuation) for passage in passages]
    ends = [start + len(passage.prompt + passage.continuation) for start, passage in zip(starts, passages, strict=True)]
    assert all(end <= start for end, start in zip(ends[:-1], starts[1:], strict=True))
    assert [start * 80 // len(text) for start in starts] == list(range(80))


@pytest.mark.parametrize("text", ["日本語の文章。" * 40, "a😀é" * 80, "שלום עולם " * 30])
@pytest.mark.parametrize("tokens", [4, 5, 6, 7])
def test_no_character_is_split(bytes_tokenizer: PreTrainedTokenizerFast, text: str, tokens: int) -> None:
    for passage in PassageCutter(bytes_tokenizer, (tokens, tokens), tokens).cut([Document("a", text)], 10):
        assert passage.prompt + passage.continuation in text
        before, after = token_ids([passage.prompt, passage.continuation], bytes_tokenizer)
        assert tokens - 3 <= len(before) <= tokens
        assert tokens - 3 <= len(after) <= tokens


def test_the_seed_decides(tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [Document("a", book(300, 1))]
    first, again, other = (PassageCutter(tokenizer, (4, 9), 5, seed).cut(documents, 9) for seed in (0, 0, 1))
    assert first == again != other


def test_every_document_gives_its_share_and_none_more_than_it_has(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    documents = [Document(name, "ada lives " * words) for name, words in (("a", 5), ("b", 4), ("c", 10), ("d", 25))]
    with caplog.at_level(logging.INFO):
        passages = PassageCutter(tokenizer, (5, 5), 5).cut(documents, 8)
    assert "too short beside the others for a passage of their own: b" in caplog.text
    assert [passage.part for passage in passages] == ["a", "c", "c", "d", "d", "d", "d", "d"]
    with pytest.raises(
        MisconfigurationError,
        match=r"\(4, of 88 tokens\) have room for 8 passages of up to 10 .* ask for 9; take fewer",
    ):
        PassageCutter(tokenizer, (5, 5), 5).cut(documents, 9)
