"""What the pages of tasks show: their code blocks, and rows as they are trained on."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from soul_lightning.encoding import EncodedExample, encode
from soul_lightning.protocols import Example
from soul_lightning.templates import PromptTemplate
from tests.docs import pages

TASKS = pages.DOCS / "tasks"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return [block.text.removesuffix("\n") for block in pages.blocks(TASKS / page) if block.language == language]


def word_tokenizer(*texts: str) -> PreTrainedTokenizerFast:
    """A token a word of the texts, the white space before it included."""
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    words = dict.fromkeys(word for text in texts for word, _ in split.pre_tokenize_str(text))
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["<eos>", *words])}, "<eos>"))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def marked(row: EncodedExample, tokenizer: PreTrainedTokenizerBase) -> str:
    """The decoded row, its labelled tokens in double brackets."""
    before, labelled = row.input_ids[: row.prompt_tokens], row.input_ids[row.prompt_tokens :]
    return f"{tokenizer.decode(before)}⟦{tokenizer.decode(labelled)}⟧"


def encoded(rows: list[Example], template: PromptTemplate, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Each row as it is trained on."""
    return [marked(row, tokenizer) for row in encode(rows, tokenizer, template)]
