"""What was encoded is kept by content, and a file that cannot be used costs time and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from soul_lightning.encoding import EncodedExample, encode
from soul_lightning.encoding_cache import CACHE_VERSION, cache_folder
from soul_lightning.protocols import Example
from soul_lightning.templates import PromptTemplate
from tests.conftest import PLAIN

ROWS = [Example("paris", "ada lives in", 7), Example("rome and oslo .", index=3)]


def equal(one: Sequence[EncodedExample], other: Sequence[EncodedExample]) -> bool:
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
    monkeypatch.setattr("soul_lightning.encoding._encode_rendered", None)  # a miss would call it
    assert equal(fresh, encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path))


def test_the_cache_is_keyed_by_all_that_matters(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    others = [
        PLAIN,
        PromptTemplate("{prompt} .", " {answer}"),
        PromptTemplate("{prompt}", " {answer}", end_of_text=False),
        PromptTemplate("{prompt}", " {answer}", labels="all"),
    ]
    for template in others:
        encode(ROWS, tokenizer, template, cache_dir=tmp_path)
    encode(ROWS, tokenizer, PLAIN, 5, cache_dir=tmp_path)
    encode(ROWS[::-1], tokenizer, PLAIN, cache_dir=tmp_path)
    encode([ROWS[0], replace(ROWS[1], is_cut=True)], tokenizer, PLAIN, cache_dir=tmp_path)
    encode([Example("ada lives in paris"), ROWS[1]], tokenizer, PLAIN, cache_dir=tmp_path)  # the same text in all
    assert len(list(tmp_path.iterdir())) == len(others) + 4


def copied(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def test_the_cache_is_keyed_by_what_the_tokenizer_does(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path)
    encode(ROWS, copied(tokenizer), PLAIN, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    changed = copied(tokenizer)
    encode(ROWS, changed, PLAIN, cache_dir=tmp_path)
    changed.add_tokens(["rome and"])
    encode(ROWS, changed, PLAIN, cache_dir=tmp_path)
    changed.backend_tokenizer.normalizer = normalizers.Lowercase()
    encode(ROWS, changed, PLAIN, cache_dir=tmp_path)
    changed.eos_token = "."
    encode(ROWS, changed, PLAIN, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_cache_is_keyed_by_whether_special_tokens_in_texts_are_split(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    own = copied(tokenizer)
    own.split_special_tokens = True
    encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path)
    encode(ROWS, own, PLAIN, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_an_earlier_version_kept_is_not_taken(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("soul_lightning.encoding_cache.CACHE_VERSION", CACHE_VERSION - 1)
        encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path)
    encode(ROWS, tokenizer, PLAIN, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


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
