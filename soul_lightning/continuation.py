"""Token ids of a text that stands behind another, without the space that some tokenizers put before every text."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase

_ANCHOR = "\n"
"""Stands before a text that is to be encoded as a continuation: few vocabularies join it with what follows."""


def token_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each text without special tokens; an empty text has none."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return ids


def adds_prefix(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a space before every text (Llama-2: ▁); of a tokenizer in Python nobody can tell."""
    if not tokenizer.is_fast:
        return True
    settings, unprefixed = _settings(tokenizer)
    return unprefixed != settings


def continuation_ids(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, before: Sequence[Sequence[int]] | None = None
) -> list[list[int]]:
    """Token ids of texts that stand behind other texts: those of the joined text, but that no token straddles a border.

    A tokenizer that adds no space of its own encodes each text as it is. One that does is asked without that setting;
    where there is none to change (tokenizers in Python), and where special tokens decide about the space, it is asked
    for the text with something before it. The two may grow together; the text is then encoded as it is.

    Args:
        texts: The texts.
        tokenizer: The tokenizer; it is not changed.
        before: Token ids of what stands before each text. A text behind none is a beginning, and has what beginnings
            have; behind a special token the tokenizer decides. Ordinary text, if none is given.
    """
    if not adds_prefix(tokenizer):
        return token_ids(texts, tokenizer)
    added = {number: token.content for number, token in tokenizer.added_tokens_decoder.items()}
    added.pop(tokenizer.unk_token_id, None)  # which most often stands for a text without a token, and not for itself
    anchors = [_ANCHOR] * len(texts) if before is None else [_anchor(ids, added) for ids in before]
    view = _without_prefix(tokenizer)
    if view is None:
        return _behind(anchors, texts, tokenizer, tokenizer)
    ordinary = [place for place, anchor in enumerate(anchors) if anchor == _ANCHOR]
    encoded = zip(ordinary, token_ids([texts[place] for place in ordinary], view), strict=True)
    # Behind a special token inside of the text many tokenizers add their space again.
    ids = {place: own for place, own in encoded if added.keys().isdisjoint(own[:-1])}
    others = [place for place in range(len(texts)) if place not in ids]
    asked = _behind([anchors[place] for place in others], [texts[place] for place in others], tokenizer, view)
    ids.update(zip(others, asked, strict=True))
    return [ids[place] for place in range(len(texts))]


def _anchor(before: Sequence[int], added: dict[int, str]) -> str:
    return added.get(before[-1], _ANCHOR) if before else ""


def _behind(
    anchors: Sequence[str],
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    otherwise: PreTrainedTokenizerBase,
) -> list[list[int]]:
    """What the tokenizer makes of each text behind its anchor; where they grow together, `otherwise` of the text."""
    different = list(dict.fromkeys(anchors))
    of_anchor = dict(zip(different, token_ids(different, tokenizer), strict=True))
    whole = token_ids([anchor + text for anchor, text in zip(anchors, texts, strict=True)], tokenizer)
    rows: list[list[int] | None] = []
    for anchor, ids in zip(anchors, whole, strict=True):
        start = of_anchor[anchor]
        # An unknown anchor may have become one unknown token with what follows.
        is_apart = ids[: len(start)] == start and tokenizer.unk_token_id not in start
        rows.append(ids[len(start) :] if is_apart else None)
    grown = iter(token_ids([text for text, ids in zip(texts, rows, strict=True) if ids is None], otherwise))
    return [next(grown) if ids is None else ids for ids in rows]


def _without_prefix(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase | None:
    """A view of the tokenizer that adds no space, to encode with and not to decode; none where there can be none.

    It shares the model, and is made at every call: this is cheap, and tokens that were added since are in it.
    """
    if not tokenizer.is_fast:
        return None
    settings, unprefixed = _settings(tokenizer)
    backend: Tokenizer = tokenizer.backend_tokenizer
    added = [token for _, token in sorted(backend.get_added_tokens_decoder().items())]
    if unprefixed["normalizer"] != settings["normalizer"] and any(token.normalized for token in added):
        return None  # such tokens are looked for with the ▁ that the normalizer puts before them
    rebuilt = Tokenizer.from_str(json.dumps(unprefixed))
    rebuilt.model = backend.model
    rebuilt.add_tokens(added)
    view = copy.copy(tokenizer)
    view._tokenizer = rebuilt
    return view


def _settings(tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a fast tokenizer treats text before its model sees it, as it is and without the added space."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    shell = Tokenizer(models.WordLevel({}, unk_token=""))  # a vocabulary is large, and says nothing here
    shell.normalizer, shell.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    settings: dict[str, Any] = json.loads(shell.to_str())
    changed = {part: _unprefixed(settings[part]) for part in ("normalizer", "pre_tokenizer")}
    return settings, settings | changed


def _unprefixed(step: dict[str, Any] | None, *, is_first: bool = True) -> dict[str, Any] | None:
    """A step without the space it adds; nothing is left of one that does nothing else.

    Behind a step that splits, a Metaspace or ByteLevel puts its space before each piece, also inside of a text (T5's
    words are marked so): it stays.
    """
    if step is None or step["type"] == "Prepend":
        return None
    if step["type"] == "Sequence":
        name = "normalizers" if "normalizers" in step else "pretokenizers"
        inner = [_unprefixed(part, is_first=is_first and place == 0) for place, part in enumerate(step[name])]
        return {**step, name: [part for part in inner if part is not None]}
    if step["type"] == "Metaspace" and (is_first or step["prepend_scheme"] == "first"):
        return {**step, "prepend_scheme": "never"}
    if step["type"] == "ByteLevel" and is_first and step.get("add_prefix_space"):
        return {**step, "add_prefix_space": False}
    return step
