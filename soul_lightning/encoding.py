"""From text to tokens: labels, truncation, padding."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from soul_lightning.continuation import adds_prefix, continuation_ids, token_ids
from soul_lightning.encoding_cache import content_hash, keep, load_kept
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.progress import tracked
from soul_lightning.protocols import IGNORE_INDEX, Batch, Example
from soul_lightning.templates import PromptTemplate, Rendered

_TENSORS = ("ids", "lengths", "prompts", "uncut")
_AT_ONCE = 8192
"""Rows that the tokenizer's threads are given together: enough for all of them, and progress is seen."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One row as token ids.

    Attributes:
        input_ids: [tokens].
        prompt_tokens: How many leading tokens carry no label.
        index: `Example.index`.
        alternatives: Other texts of the row, by `View`.
    """

    input_ids: Tensor
    prompt_tokens: int
    index: int
    alternatives: Mapping[str, EncodedExample] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)

    def without_labels(self) -> EncodedExample:
        """The row with nothing to predict, in any of its texts."""
        others = {view: other.without_labels() for view, other in self.alternatives.items()}
        return replace(self, prompt_tokens=len(self), alternatives=others)


class EncodedRows(Sequence[EncodedExample]):
    """Rows that stand one behind the other in one tensor, and are cut out of it when they are asked for.

    Args:
        index: `Example.index` of each row.
        ids: [tokens] every row's token ids.
        lengths: [rows] tokens of each row.
        prompts: [rows] how many leading tokens of each row carry no label; rows without a label are left out.
        uncut: [rows] tokens that each row would have had without a limit.

    Attributes:
        cut: How many of the rows the limit has cut; they have no end.
        longest: Tokens of the longest row before any cut, rows without a label included; 0 where there is no row.
    """

    def __init__(self, index: Sequence[int], ids: Tensor, lengths: Tensor, prompts: Tensor, uncut: Tensor) -> None:
        # The first token has nothing before it, so that a label there says nothing.
        has_label = lengths > prompts.clamp(min=1)
        ends = lengths.cumsum(0)
        self._ids = ids
        self._starts = (ends - lengths)[has_label].tolist()
        self._ends = ends[has_label].tolist()
        self._prompts = prompts[has_label].tolist()
        self._index = [index[place] for place in has_label.nonzero().flatten().tolist()]
        self.cut = int((uncut > lengths)[has_label].sum())
        self.longest = int(uncut.max()) if len(uncut) else 0

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, place: int) -> EncodedExample: ...
    @overload
    def __getitem__(self, place: slice) -> list[EncodedExample]: ...
    def __getitem__(self, place: int | slice) -> EncodedExample | list[EncodedExample]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        ids = self._ids[self._starts[place] : self._ends[place]]
        return EncodedExample(ids, self._prompts[place], self._index[place])


def collate(rows: Sequence[EncodedExample], pad_token_id: int) -> Batch:
    """Pad `rows` on the right to the longest of them.

    Args:
        rows: Encoded rows; none give a batch of shape [0, 0].
        pad_token_id: Fills `input_ids`; masked and never labelled.

    Returns:
        The batch; of the alternatives those that every row has.
    """
    width = max((len(row) for row in rows), default=0)
    input_ids = torch.full((len(rows), width), pad_token_id, dtype=torch.int64)
    labels = torch.full((len(rows), width), IGNORE_INDEX, dtype=torch.int64)
    attention_mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for number, row in enumerate(rows):
        input_ids[number, : len(row)] = row.input_ids
        attention_mask[number, : len(row)] = 1
        labels[number, row.prompt_tokens : len(row)] = row.input_ids[row.prompt_tokens :]
    index = torch.tensor([row.index for row in rows], dtype=torch.int64)
    shared = [view for view in rows[0].alternatives if all(view in row.alternatives for row in rows)] if rows else []
    others = {view: collate([row.alternatives[view] for row in rows], pad_token_id) for view in shared}
    return Batch(input_ids, attention_mask, labels, index, others)


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate | None = None,
    max_tokens: int = 512,
    cache_dir: Path | None = None,
) -> EncodedRows:
    """Encode rows, in parallel and once: the tokenizer's own threads share the work, the result is kept by content.

    Prompt and answer are encoded apart and joined, so that no token straddles the border; the answer gets none of the
    space that some tokenizers (Llama-2's) put before every text. Rows are cut on the right at `max_tokens`, and lose
    their end with it; a row whose answer is cut away entirely is left out.

    Args:
        examples: The rows.
        tokenizer: A tokenizer; its beginning-of-text token, if it adds one, comes first.
        template: How rows are written and labelled; the default template if none is given.
        max_tokens: Longest row, in tokens.
        cache_dir: Folder of the cache; none encodes anew.

    Returns:
        The rows that kept a label, in order.

    Raises:
        MisconfigurationError: There were rows, and every answer was cut away.
    """
    rows = encode_labelled(examples, tokenizer, template, max_tokens, cache_dir)
    if examples and not rows:
        raise MisconfigurationError(
            f"max_tokens={max_tokens} cuts away every answer of {len(examples)} rows; raise it, or shorten the prompts"
        )
    return rows


def encode_labelled(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate | None = None,
    max_tokens: int = 512,
    cache_dir: Path | None = None,
) -> EncodedRows:
    """`encode`, where it is no mistake that no row keeps a label: a few rows of many."""
    template = template or PromptTemplate()
    rendered = template.render(examples, tokenizer)
    labels_all, begin = template.labels == "all", beginning_of_text(tokenizer)
    path = None
    if cache_dir is not None:
        texts = [text for prompt, answer, _ in rendered for text in (prompt, answer)]
        settings = [labels_all, max_tokens, begin, tokenizer.eos_token_id]
        path = cache_dir / f"{content_hash(texts, [row.ends for row in rendered], tokenizer, settings)}.safetensors"
    flat = load_kept(path, len(rendered), _TENSORS) if path is not None else None
    if flat is None:
        with _collection_paused():
            flat = _encode_rendered(rendered, tokenizer, begin, labels_all, max_tokens)
        if path is not None:
            keep(flat, path)
    return EncodedRows([example.index for example in examples], *(flat[name] for name in _TENSORS))


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Tokenizing makes thousands of lists that all stay for a while: a collector would walk every live object for them.

    It costs as much as half of the tokenizing where many modules are loaded (benchmarks/encoding.py).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _encode_rendered(
    rendered: Sequence[Rendered],
    tokenizer: PreTrainedTokenizerBase,
    begin: list[int],
    labels_all: bool,
    max_tokens: int,
) -> dict[str, Tensor]:
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    rows, prompt_lengths, uncut = [], [], []
    parts = [rendered[start : start + _AT_ONCE] for start in range(0, len(rendered), _AT_ONCE)]
    encoded = (_prompt_and_answer_ids(part, tokenizer) for part in tracked(parts, "encoding", "rows", len))
    both = chain.from_iterable(zip(*part, strict=True) for part in encoded)
    for (prompt, answer), row in zip(both, rendered, strict=True):
        # A rendered chat, and a text that somebody rendered before, bring their own first and last token.
        text = prompt + answer
        start = [] if text[: len(begin)] == begin else begin
        whole = start + text + (end if row.ends and answer[-len(end) :] != end else [])
        rows.append(whole[:max_tokens])
        prompt_lengths.append(len(begin) if labels_all else max(len(begin), len(start) + len(prompt)))
        uncut.append(len(whole))
    numbers = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=sum(map(len, rows)))
    return {
        "ids": torch.from_numpy(numbers),
        "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int64),
        "prompts": torch.tensor(prompt_lengths, dtype=torch.int64),
        "uncut": torch.tensor(uncut, dtype=torch.int64),
    }


def _prompt_and_answer_ids(
    rendered: Sequence[Rendered], tokenizer: PreTrainedTokenizerBase
) -> tuple[list[list[int]], list[list[int]]]:
    if adds_prefix(tokenizer):
        prompts = token_ids([row.prompt for row in rendered], tokenizer)
        return prompts, continuation_ids([row.answer for row in rendered], tokenizer, prompts)
    ids = token_ids([text for prompt, answer, _ in rendered for text in (prompt, answer)], tokenizer)
    return ids[::2], ids[1::2]


def cut_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[str]:
    """Each text up to the end of its token number `max_tokens`, without a character that it only begins.

    Shorter texts stay as they are.

    A cut in the text, in place of one at encoding, holds wherever the text goes: training, scoring, the overlap check.

    Args:
        texts: The texts.
        tokenizer: Says what a token is; one without character offsets decodes the tokens that are kept.
        max_tokens: Tokens to keep, >= 1.
    """
    if not texts:
        return []
    if not tokenizer.is_fast:
        rows = zip(token_ids(texts, tokenizer), texts, strict=True)
        return [str(tokenizer.decode(ids[:max_tokens])) if len(ids) > max_tokens else text for ids, text in rows]
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoded["offset_mapping"], texts, strict=True)
    # Tokens may share a character, as its bytes do, and the ▁ that only the tokenizer has put before it: all or none.
    return [
        text[: min(span[max_tokens - 1][1], span[max_tokens][0])] if len(span) > max_tokens else text
        for span, text in spans
    ]


def beginning_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text of its own accord: usually nothing or one token."""
    ids = list(tokenizer("")["input_ids"])
    return [token for token in ids[:1] if token == tokenizer.bos_token_id]


def rows_hash(examples: Sequence[Example]) -> str:
    """A hash of what `examples` say, order included: 16 hexadecimal digits."""
    rows = [asdict(example) for example in examples]
    for row in rows:
        del row["is_cut"]  # which is how a row ends, and not what it says
        if not row["turns"]:
            del row["turns"]  # hashes of single questions stay those of earlier reports
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]
