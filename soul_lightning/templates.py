"""How a prompt and its answer become text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soul_lightning.exceptions import MisconfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from soul_lightning.protocols import Example


@dataclass(frozen=True)
class PromptTemplate:
    """How a prompt and its answer become text.

    Attributes:
        prompt: Format of the prompt, with `{prompt}` in it.
        answer: Format of the answer, with `{answer}` in it.
        chat: Use the tokenizer's chat template for the prompt in place of `prompt`.
        end_of_text: Label an end-of-text token after the answer, so that the model learns to stop.
    """

    prompt: str = "Question: {prompt}\nAnswer:"
    answer: str = " {answer}"
    chat: bool = False
    end_of_text: bool = True

    def __post_init__(self) -> None:
        """Refuse formats without their place."""
        if "{prompt}" not in self.prompt or "{answer}" not in self.answer:
            raise MisconfigurationError(
                f"a template needs {{prompt}} in prompt and {{answer}} in answer, "
                f"got {self.prompt!r} and {self.answer!r}"
            )

    def render(self, example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
        """The text before the labels, and the text that is labelled.

        Plain text (an example without a prompt) passes through as it is, all of it labelled.
        """
        if not example.prompt:
            return example.context, example.answer
        if not self.chat:
            body = self.prompt.replace("{prompt}", example.prompt)
            return example.context + body, self.answer.replace("{answer}", example.answer)
        if not tokenizer.chat_template:
            raise MisconfigurationError(
                "template.chat is on, and the tokenizer has no chat template; "
                "turn it off, or set tokenizer.chat_template"
            )
        message = [{"role": "user", "content": example.context + example.prompt}]
        rendered = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return str(rendered), example.answer
