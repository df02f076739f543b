"""From examples to the token ids that a model is asked to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from soul_lightning.continuation import continuation_ids, token_ids
from soul_lightning.encoding import beginning_of_text
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example
from soul_lightning.templates import PromptTemplate


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row's prompt, cut in two at the border of what it shares with others.

    Attributes:
        position: The row's place among those that were asked for.
        prefix: Tokens of the beginning-of-text token and the shared context.
        rest: Tokens of the row's own prompt; never empty.
    """

    position: int
    prefix: tuple[int, ...]
    rest: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prefix) + len(self.rest)

    def whole(self) -> Prompt:
        """The same tokens with nothing shared."""
        return Prompt(self.position, (), self.prefix + self.rest)


def encode_prompts(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, template: PromptTemplate
) -> list[Prompt]:
    """Encode prompts; the context and what follows it are encoded apart and joined, so that sharing is exact.

    What follows a context gets none of the space that some tokenizers put before every text.

    Args:
        examples: The rows; of plain text (no prompt) only the context is given to the model.
        tokenizer: A tokenizer; its beginning-of-text token, if it adds one, comes first.
        template: How prompts are written. A chat prompt is one text: its context is inside the user's turn.

    Raises:
        MisconfigurationError: A prompt has no token.
    """
    begin = beginning_of_text(tokenizer)
    rendered = [template.render_prompt(example, tokenizer) for example in examples]
    shared = ["" if template.chat and example.prompt else example.context for example in examples]
    contexts = dict.fromkeys(shared)
    context_ids = dict(zip(contexts, token_ids(list(contexts), tokenizer), strict=True))
    befores = [context_ids[context] for context in shared]
    own_texts = [text[len(context) :] for text, context in zip(rendered, shared, strict=True)]
    prompts = []
    for position, own in enumerate(continuation_ids(own_texts, tokenizer, befores)):
        before = befores[position]
        # A rendered chat prompt brings its own beginning-of-text token.
        start = [] if begin and (before + own)[: len(begin)] == begin else begin
        tokens = start + before + own
        if not tokens:
            raise MisconfigurationError(
                f"row {examples[position].index} has an empty prompt, and the tokenizer adds no token of its own: "
                f"there is nothing to generate from; give the row a prompt or a context"
            )
        border = min(len(start) + len(before), len(tokens) - 1)
        prompts.append(Prompt(position, tuple(tokens[:border]), tuple(tokens[border:])))
    return prompts


PromptBatch = tuple[tuple[int, ...], list[Prompt]]
"""The tokens that the prompts of a batch share, and the prompts."""


def group_prompts(prompts: Sequence[Prompt], batch_size: int) -> Iterator[PromptBatch]:
    """Batches by shared prefix, rows of like length together.

    Args:
        prompts: The rows.
        batch_size: Most rows in a batch.

    Yields:
        A prefix and a batch of prompts that share it, batches of one prefix behind one another. Rows that share their
        prefix with no other come last, whole, under the empty prefix.
    """
    groups: dict[tuple[int, ...], list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.prefix, []).append(prompt)
    alone: list[Prompt] = []
    for prefix, group in groups.items():
        if len(group) > 1 and len(prefix) > 1:  # one token, or one row, is not worth a forward pass of its own
            yield from ((prefix, batch) for batch in _by_length(group, batch_size))
        else:
            alone.extend(prompt.whole() for prompt in group)
    yield from (((), batch) for batch in _by_length(alone, batch_size))


def _by_length(prompts: list[Prompt], batch_size: int) -> list[list[Prompt]]:
    ordered = sorted(prompts, key=lambda prompt: (-len(prompt), prompt.position))
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
