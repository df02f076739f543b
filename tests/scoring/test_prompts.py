"""Prompts are cut at the border of what they share, and read as the text that they were written as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Turn
from soul_lightning.scoring.prompts import encode_prompts, group_prompts
from soul_lightning.templates import PromptTemplate
from tests.conftest import PLAIN
from tests.prefixing_tokenizers import EVERY, prefixing_tokenizer

TEMPLATE = PromptTemplate("Question: {prompt}\nAnswer:", " {answer}")
OF_PIECES = {kind: prefixing_tokenizer(kind) for kind in EVERY}
TEXTS = st.text("xy:", min_size=1, max_size=5)


@pytest.mark.parametrize("kind", EVERY)
@given(context=TEXTS, prompt=TEXTS, other=TEXTS)
def test_what_follows_a_context_has_no_space_but_its_own(kind: str, context: str, prompt: str, other: str) -> None:
    tokenizer = OF_PIECES[kind]
    rows = [Example("", prompt, context=context + end) for end in ("", "\n\n", " ")] + [Example("", other)]
    prompts = encode_prompts(rows, tokenizer, TEMPLATE)
    for row, written in zip(rows, prompts, strict=True):
        assert tokenizer.decode(written.whole().rest[1:]) == row.context + f"Question: {row.prompt}\nAnswer:"
        assert list(written.prefix) == tokenizer(row.context)["input_ids"]
    assert list(prompts[-1].whole().rest) == tokenizer(f"Question: {other}\nAnswer:")["input_ids"]


def test_a_prompt_inside_of_a_continuation_is_encoded_as_without_a_context() -> None:
    turns = (Turn("user", "x"), Turn("assistant", "y"))
    template = PromptTemplate("Q {prompt}", " {answer}", between=" </s><s>")
    for kind in ("prepend", "always", "first", "bytes", "python"):
        tokenizer = OF_PIECES[kind]
        rows = [Example("", "y", turns=turns, context=context) for context in ("", "x\n")]
        alone, behind = encode_prompts(rows, tokenizer, template)
        size = 1 + alone.rest[1:].index(tokenizer.bos_token_id)
        assert behind.rest[-len(alone.rest[size:]) :] == alone.rest[size:]


def test_prompts_that_share_a_context_share_its_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [Example("", name, context="rome and oslo . ") for name in ("ada lives in", "bela lives in")]
    (prefix, batch), (none, alone) = group_prompts(
        encode_prompts([*rows, Example("", "ada")], tokenizer, PLAIN), batch_size=2
    )
    assert tokenizer.decode(list(prefix)) == "<bos> rome and oslo ."
    assert [tokenizer.decode(list(prompt.rest)) for prompt in batch] == ["ada lives in", "bela lives in"]
    assert none == ()
    assert [prompt.position for prompt in alone] == [2]


def test_a_prompt_without_a_token_is_refused() -> None:
    tokenizer = prefixing_tokenizer("never")
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(MisconfigurationError, match=r"row 4 has an empty prompt"):
        encode_prompts([Example("y", index=4)], tokenizer, PLAIN)
