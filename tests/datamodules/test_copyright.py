"""Copyright removal from documents to streams and probes; on real books where they are at hand."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from soul_lightning.continuation import token_ids
from soul_lightning.datamodules import CopyrightDataModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from tests.datamodules.text_world import book, write_books, write_retain

SHORT: dict[str, object] = {"passages": 12, "holdout_passages": 6, "prompt_tokens": (4, 8), "continuation_tokens": 6}


@pytest.fixture
def books(tmp_path: Path) -> str:
    return write_books(tmp_path / "books")


def make(books: str, tokenizer: PreTrainedTokenizerFast, **settings: object) -> CopyrightDataModule:
    return CopyrightDataModule(books, tokenizer=tokenizer, **(SHORT | settings))  # type: ignore[arg-type]


def probe(module: CopyrightDataModule, name: str) -> Probe:
    return next(probe for probe in module.probes() if probe.name == name)


def texts(rows: object) -> list[str]:
    assert isinstance(rows, list)
    return [row.prompt + row.answer for row in rows if isinstance(row, Example)]


def test_books_become_streams_and_probes(tmp_path: Path, books: str, tokenizer: PreTrainedTokenizerFast) -> None:
    module = make(books, tokenizer, retain=write_retain(tmp_path), retain_rows=20, text_probes=8)
    module.prepare_data()
    assert {name: len(rows) for name, rows in module.loaded.streams.items()} == {"forget": 12, "retain": 20}
    assert [(p.name, p.kind, p.role, len(p.examples)) for p in module.probes()] == [
        ("forget", "text", "forget", 12),
        ("forget_continuations", "question", "forget", 12),
        ("holdout", "text", "holdout", 6),
        ("holdout_continuations", "question", "holdout", 6),
        ("retain", "text", "retain", 8),
        ("utility", "text", "utility", 8),
    ]
    rows = [*probe(module, "forget").examples, *probe(module, "holdout").examples]
    assert sorted(row.index for row in rows) == list(range(18))
    assert {row.subject for row in rows} == {
        "a_tale: CHAPTER I. Of ada", "a_tale: CHAPTER II. Of bela", "b_tale: CHAPTER I. Of ada"
    }  # fmt: skip
    assert not any("licence" in text or "*" in text for text in texts(rows))


def test_the_continuation_is_labelled_or_all_of_it(books: str, tokenizer: PreTrainedTokenizerFast) -> None:
    unlearns, memorises = make(books, tokenizer), make(books, tokenizer, labels="all")
    continued, whole = unlearns.loaded.streams["forget"], memorises.loaded.streams["forget"]
    assert [row.prompt + row.answer for row in continued] == [row.answer for row in whole]
    assert {row.prompt for row in whole} == {""}
    assert [row.index for row in continued] == [row.index for row in whole]
    for module, unlabelled in ((unlearns, 4), (memorises, 0)):
        for batch in module.stream("forget"):
            assert tokenizer.eos_token_id not in batch.input_ids
            prompt = (batch.attention_mask.sum(1) - 1) - batch.tokens_per_row  # <bos> is never predicted
            assert (prompt >= unlabelled).all()
            assert unlabelled or not prompt.any()
    assert unlearns.data_hashes()["probe/forget"] == memorises.data_hashes()["probe/forget"]
    assert unlearns.data_hashes()["probe/holdout"] == memorises.data_hashes()["probe/holdout"]


def test_the_sample_follows_its_seed_and_not_the_order_of_rows(books: str, tokenizer: PreTrainedTokenizerFast) -> None:
    hashes = make(books, tokenizer).data_hashes()
    assert make(books, tokenizer, seed=1).data_hashes() == hashes
    assert make(books, tokenizer, sample_seed=1).data_hashes()["probe/holdout"] != hashes["probe/holdout"]


def test_a_fixed_prompt_length(books: str, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = make(books, tokenizer, prompt_tokens=7).loaded.streams["forget"]
    assert {len(ids) for ids in token_ids([row.prompt for row in rows], tokenizer)} == {7}


def test_a_lone_part_is_no_unit_of_resampling(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (tmp_path / "tale.txt").write_text(book(400, 3).replace("CHAPTER", "and"))
    module = make(str(tmp_path / "tale.txt"), tokenizer)
    assert {row.subject for row in module.loaded.streams["forget"]} == {None}


def test_nothing_need_be_held_out(books: str, tokenizer: PreTrainedTokenizerFast) -> None:
    module = make(books, tokenizer, holdout_passages=0)
    assert [p.name for p in module.probes()] == ["forget", "forget_continuations"]


def test_documents_that_repeat_themselves_leave_no_holdout(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (tmp_path / "tale.txt").write_text("ada lives in paris . " * 60)
    settings: dict[str, object] = {"prompt_tokens": 5, "continuation_tokens": 5}
    with pytest.raises(MisconfigurationError, match="passages to train on also stand in holdout, for the documents"):
        make(str(tmp_path / "tale.txt"), tokenizer, **settings).setup()
    assert len(probe(make(str(tmp_path / "tale.txt"), tokenizer, allow_overlap=True, **settings), "holdout").examples)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passages": 0}, "passages must be >= 1, got 0"),
        ({"holdout_passages": -1}, "holdout_passages must be >= 0, got -1"),
        ({"prompt_tokens": 3}, "prompt_tokens must be >= 4, got 3"),
        ({"prompt_tokens": (9, 8)}, r"prompt_tokens must be \[fewest, most\], got \[9, 8\]"),
        ({"continuation_tokens": 1}, "continuation_tokens must be >= 4, got 1"),
        ({"labels": "prompt"}, "labels must be continuation or all, got 'prompt'"),
        ({"documents": "none.txt"}, "no file and no folder /.*none.txt"),
        ({"retain": "none.jsonl"}, "retain: there is no file /"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(books: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        CopyrightDataModule(**({"documents": books} | SHORT | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 14}, r"max_tokens=14 would cut passages of 14 tokens \(with 1 for"),
        ({"passages": 60}, r"3, of \d+ tokens\) have room for \d+ passages of up to 14 tokens, and .* ask for 66"),
    ],
)
def test_settings_that_do_not_fit_the_books(
    books: str, tokenizer: PreTrainedTokenizerFast, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        make(books, tokenizer, **settings).setup()


def real_books() -> list[str]:
    if "SOUL_DATA" not in os.environ:
        pytest.skip("SOUL_DATA names no folder with books_public_domain/ in it")
    folder = Path(os.environ["SOUL_DATA"]) / "books_public_domain"
    return [str(folder / "adventures_of_sherlock_holmes.txt"), str(folder / "alice_in_wonderland.txt")]


@pytest.mark.real
def test_real_books_without_a_model(tokenizer: PreTrainedTokenizerFast) -> None:
    module = CopyrightDataModule(real_books(), passages=150, tokenizer=tokenizer)  # one token a word
    rows = [*probe(module, "forget").examples, *probe(module, "holdout").examples]
    assert (len(rows), sorted(row.index for row in rows)) == (250, list(range(250)))
    assert len({row.subject for row in rows if ": " in (row.subject or "")}) == 24  # twelve adventures, twelve chapters
    books = [Path(path).read_text() for path in real_books()]
    spans = [(number, book.find(text)) for text in texts(rows) for number, book in enumerate(books) if text in book]
    assert len(spans) == len(set(spans)) == 250
    ordered = sorted(
        (number, start, start + len(text)) for (number, start), text in zip(spans, texts(rows), strict=True)
    )
    for (number, _, end), (following, start, _) in itertools.pairwise(ordered):
        assert number < following or end <= start
    assert {len(ids) for ids in token_ids([row.answer for row in rows], tokenizer)} == {200}


@pytest.mark.real
def test_real_books_are_cut_at_token_borders() -> None:
    books = real_books()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train(books, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    module = CopyrightDataModule(books, tokenizer=tokenizer)
    rows = [*probe(module, "forget").examples, *probe(module, "holdout").examples]
    prompts, answers, whole = (
        token_ids(part, tokenizer) for part in ([row.prompt for row in rows], [row.answer for row in rows], texts(rows))
    )
    assert [before + after for before, after in zip(prompts, answers, strict=True)] == whole
    assert {len(ids) for ids in answers} == {200}
    assert {len(ids) for ids in prompts} <= set(range(50, 301))
    assert [tokenizer.decode(ids) for ids in whole] == texts(rows)
