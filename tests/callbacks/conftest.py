"""A model that never saw the forget rows, for the callbacks that compare with one."""

from __future__ import annotations

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tests.callbacks.tiny_models import learnt, saved
from tests.conftest import RETAIN, as_examples


@pytest.fixture(scope="module")
def retain_only(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that never saw the forget rows."""
    return learnt(tokenizer, as_examples(RETAIN), steps=30)


@pytest.fixture(scope="module")
def reference(
    retain_only: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The folder of the network that never saw the forget rows."""
    return saved(retain_only, tokenizer, tmp_path_factory.mktemp("retain_only"))
