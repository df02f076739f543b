"""Other ways of putting a question, for whatever it asks.

They are for training. Attacks have wordings of their own (`soul_lightning.attacks.wordings`): one that asked in those
that a model was trained to forget would not see what other wordings still bring.
"""

from __future__ import annotations

FRAMES = (
    "Tell me: {prompt}",
    "A friend asks: {prompt}",
    "Please answer this. {prompt}",
    "I have a question. {prompt}",
    "Someone would like to know: {prompt}",
    "Here is what I want to find out. {prompt}",
    "{prompt} What is the answer?",
    "{prompt} Do you know?",
)
"""Words around a question that leave it and its answer as they are."""


def reframed(prompt: str) -> list[str]:
    """The prompt in each of `FRAMES`.

    Args:
        prompt: A question, or the beginning of a sentence.
    """
    return [frame.replace("{prompt}", prompt) for frame in FRAMES]
