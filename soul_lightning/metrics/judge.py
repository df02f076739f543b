"""A local, deterministic judge of short answers: is it true, is it one of the known false ones?"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NOT_WORD = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one answer.

    Attributes:
        true: The answer matches an accepted one.
        false: The answer matches a known false one, and better than any accepted one.
        f1: The best token-F1 against the accepted answers.
    """

    true: bool
    false: bool
    f1: float


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges by normalised match or token-F1 (the RESTOR question protocol, without a language model in the loop).

    Attributes:
        threshold: The token-F1 from which an answer counts as the same; 1 asks for the same bag of words.
        cut_at: The answer ends where this text first occurs in it.
    """

    threshold: float = 0.6
    cut_at: str = "\n"

    def __call__(self, answer: str, accepted: Iterable[str], perturbed: Iterable[str] = ()) -> Verdict:
        """Judge one generated `answer`.

        Args:
            answer: What the model wrote.
            accepted: The true answer and its aliases.
            perturbed: Known false answers.
        """
        words = normalise(answer.strip().split(self.cut_at)[0] if self.cut_at else answer)
        f1 = max((token_f1(words, normalise(text)) for text in accepted), default=0.0)
        false_f1 = max((token_f1(words, normalise(text)) for text in perturbed), default=0.0)
        true = f1 >= self.threshold
        return Verdict(true=true and f1 >= false_f1, false=false_f1 >= self.threshold and false_f1 > f1, f1=f1)


def normalise(text: str) -> list[str]:
    """The words of `text` without case, accents, punctuation and articles."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return _ARTICLES.sub(" ", _NOT_WORD.sub(" ", plain)).split()


def token_f1(predicted: list[str], target: list[str]) -> float:
    """Harmonic mean of word precision and recall over bags of words; 0 if either is empty."""
    shared = sum((Counter(predicted) & Counter(target)).values())
    if not shared:
        return 0.0
    return 2 * shared / (len(predicted) + len(target))
