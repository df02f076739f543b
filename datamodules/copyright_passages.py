"""Passages of documents, cut where the tokenizer cuts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from transformers import PreTrainedTokenizerBase

from soul_lightning.continuation import continuation_ids, token_ids
from soul_lightning.datamodules.copyright_documents import Document
from soul_lightning.exceptions import MisconfigurationError

logger = logging.getLogger(__name__)

_TRIES = 16
"""So many places are tried for a passage whose parts, encoded by themselves, are the very tokens of the document."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: prompt and continuation are neighbouring slices of its text.

    Attributes:
        prompt: What is given.
        continuation: What stands after it.
        part: The document's name, and the chapter where the passage begins.
    """

    prompt: str
    continuation: str
    part: str


class _TokenizedDocument:
    """A document with the place of each of its tokens."""

    def __init__(self, document: Document, tokenizer: PreTrainedTokenizerBase) -> None:
        # A whole book is longer than any model reads, which is no news here: verbose=False
        encoded = tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        self.document = document
        self.ids: list[int] = list(encoded["input_ids"])
        self.spans: list[tuple[int, int]] = list(encoded["offset_mapping"])

    def __len__(self) -> int:
        return len(self.ids)

    def is_border(self, place: int) -> bool:
        """Whether token `place` begins a character; several tokens may share one."""
        return place in (0, len(self)) or self.spans[place][0] >= self.spans[place - 1][1]

    def border_before(self, place: int) -> int:
        """The last such token that is not after `place`."""
        return next(border for border in range(place, -1, -1) if self.is_border(border))

    def passage(self, place: int, middle: int, end: int) -> Passage:
        """The tokens from `place` to `middle` as prompt, those from there to `end` as continuation."""
        begin, border = self.spans[place][0], self.spans[middle][0]
        text = self.document.text
        return Passage(text[begin:border], text[border : self.spans[end - 1][1]], self.document.part_at(begin))


@dataclass(frozen=True)
class PassageCutter:
    """Cuts passages out of non-overlapping places, spread over the documents.

    Each document takes a share of the passages by its length and is cut into as many equal slots; a passage stands at a
    random place of its slot.

    Attributes:
        tokenizer: Says what a token is; one with character offsets.
        prompt_tokens: Fewest and most tokens of a prompt, >= 4; each length is drawn.
        continuation_tokens: Tokens of a continuation, >= 4.
        seed: Seed of lengths and places.
    """

    tokenizer: PreTrainedTokenizerBase
    prompt_tokens: tuple[int, int]
    continuation_tokens: int
    seed: int = 0

    @property
    def longest(self) -> int:
        """Most tokens of a passage."""
        return self.prompt_tokens[1] + self.continuation_tokens

    def cut(self, documents: Sequence[Document], count: int) -> list[Passage]:
        """`count` passages, in the order of the documents.

        A prompt or a continuation is up to three tokens shorter where a cut would split a character.

        Raises:
            MisconfigurationError: The tokenizer gives no offsets, or the documents are too short.
        """
        if not self.tokenizer.is_fast:
            raise MisconfigurationError(
                f"passages are cut at the tokens' places in the text, which the slow tokenizer "
                f"{type(self.tokenizer).__name__} does not tell; give a fast one"
            )
        sources = [_TokenizedDocument(document, self.tokenizer) for document in documents]
        room = [len(source) // self.longest for source in sources]
        if count > sum(room):
            raise MisconfigurationError(
                f"the documents ({len(sources)}, of {sum(map(len, sources))} tokens) have room for {sum(room)} "
                f"passages of up to {self.longest} tokens, and passages and holdout_passages ask for {count}; take "
                f"fewer or shorter ones, or give more text"
            )
        shares = _shares(room, count)
        without = [document.name for document, share in zip(documents, shares, strict=True) if share == 0]
        if without:
            logger.info("too short beside the others for a passage of their own: %s", ", ".join(without))
        random = Random(f"{self.seed}/passages")
        return [
            self._passage(source, slot, random)
            for source, share in zip(sources, shares, strict=True)
            for slot in _slots(len(source), share)
        ]

    def _passage(self, source: _TokenizedDocument, slot: range, random: Random) -> Passage:
        prompt_tokens = random.randint(*self.prompt_tokens)
        last = slot.stop - prompt_tokens - self.continuation_tokens
        first = random.randint(slot.start, last)
        places = [*range(first, last + 1), *range(slot.start, first)]
        borders = [place for place in places if source.is_border(place)] or places
        passages = []
        for place in borders[:_TRIES]:
            middle = source.border_before(place + prompt_tokens)
            end = source.border_before(middle + self.continuation_tokens)
            passage = source.passage(place, middle, end)
            own = [source.ids[place : place + prompt_tokens], source.ids[middle : middle + self.continuation_tokens]]
            prompt = token_ids([passage.prompt], self.tokenizer)
            if [*prompt, *continuation_ids([passage.continuation], self.tokenizer, prompt)] == own:
                return passage
            passages.append(passage)
        return passages[0]


def _shares(room: Sequence[int], count: int) -> list[int]:
    """`count` divided in proportion to `room`, none above its own, by the largest remainders."""
    total = sum(room)
    shares = [count * own // total for own in room]
    by_remainder = sorted(range(len(room)), key=lambda place: -(count * room[place] % total))
    for place in by_remainder[: count - sum(shares)]:
        shares[place] += 1
    return shares


def _slots(tokens: int, count: int) -> list[range]:
    """`tokens` places cut into `count` neighbouring ranges of nearly equal size."""
    return [range(tokens * number // count, tokens * (number + 1) // count) for number in range(count)]
