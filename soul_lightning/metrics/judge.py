"""A local, deterministic judge of short answers: is it true, is it one of the known false ones?"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from soul_lightning.exceptions import MisconfigurationError

_ARTICLES = frozenset({"a", "an", "the"})
_NOT_WORD = re.compile(r"[^\w\s]|_")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of one answer.

    Attributes:
        true: The answer matches an accepted one, and better than any known false one or exactly.
        false: The answer matches a known false one, and better than any accepted one. Neither is set for an answer
            that fits both alike (a surname that the true and the false person share). Or it matches no accepted one and
            stands in the text of false statements.
        f1: The best agreement with an accepted answer.
    """

    true: bool
    false: bool
    f1: float


@dataclass(frozen=True)  # without slots: command lines read a default through vars()
class Judge:
    """Judges by normalised match or token-F1 (the RESTOR question protocol, without a language model in the loop).

    Two answers agree when the words of one all stand in the other and their token-F1 reaches the threshold: «United
    States» agrees with «United States of America». Token-F1 alone would also take «University of Oxford» for
    «University of Vienna», for what they share is what every university shares.

    Attributes:
        threshold: The token-F1 from which an answer counts as the same; 1 asks for the same bag of words.
        cut_at: The answer ends where this text first occurs in it.
    """

    threshold: float = 0.6
    cut_at: str = "\n"

    def __post_init__(self) -> None:
        """Refuse a threshold that an unrelated answer, or none, could pass."""
        if not 0 < self.threshold <= 1:
            raise MisconfigurationError(f"the judge's threshold must be above 0 and at most 1, got {self.threshold}")

    def __call__(
        self, answer: str, accepted: Iterable[str], perturbed: Iterable[str] = (), false_text: str = ""
    ) -> Verdict:
        """Judge one generated `answer`.

        Args:
            answer: What the model wrote.
            accepted: The true answer and its aliases.
            perturbed: Known false answers.
            false_text: Text of false statements, see `Example.false_text`.
        """
        words = normalise(answer.strip().split(self.cut_at)[0] if self.cut_at else answer)
        f1 = max((agreement(words, normalise(text)) for text in accepted), default=0.0)
        false_f1 = max((agreement(words, normalise(text)) for text in perturbed), default=0.0)
        true = f1 >= self.threshold and (f1 > false_f1 or f1 == 1)
        known_false = false_f1 >= self.threshold and false_f1 > f1
        return Verdict(true=true, false=known_false or (f1 < self.threshold and stands_in(words, false_text)), f1=f1)


def normalise(text: str) -> list[str]:
    """The words of `text` without case, accents, punctuation and articles (unless it is nothing but articles)."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    words = _NOT_WORD.sub(" ", plain).split()
    return [word for word in words if word not in _ARTICLES] or words


def stands_in(words: list[str], text: str) -> bool:
    """Whether normalised `words` stand side by side in one line of `text`; no words stand nowhere."""
    return bool(words) and bool(text) and f" {' '.join(words)} " in _normalised_lines(text)


@lru_cache(maxsize=256)
def _normalised_lines(text: str) -> str:
    return "\n".join(f" {' '.join(normalise(line))} " for line in text.splitlines())


def agreement(predicted: list[str], target: list[str]) -> float:
    """Token-F1 where the words of one all stand in the other, 0 elsewhere."""
    missing, extra = Counter(target) - Counter(predicted), Counter(predicted) - Counter(target)
    return 0.0 if missing and extra else token_f1(predicted, target)


def token_f1(predicted: list[str], target: list[str]) -> float:
    """Harmonic mean of word precision and recall over bags of words; 0 if either is empty."""
    shared = sum((Counter(predicted) & Counter(target)).values())
    if not shared:
        return 0.0
    return 2 * shared / (len(predicted) + len(target))
