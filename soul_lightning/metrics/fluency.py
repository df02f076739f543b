"""Fluency: whether answers are language at all, so that gibberish cannot pass for forgetting.

A model that writes `{{{{` or one word for ever no longer tells what it should forget, and its forget scores are as good
as they can be. Rules find such answers without a language model; each bound is set so that it spares what people write.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric

Reason = Literal["empty", "repetition", "symbols", "non-words", "word soup"]
"""Why an answer is degenerate."""

JUDGED_CHARACTERS = 2000
"""So much of an answer is judged: the longer a text, the more of it natural texts have said before."""

SAME_LETTERS, SAME_WORDS = 5, 4
"""So often the same letter (`zzz` and `www` exist) or the same word (`Duran Duran`), and nothing else, is no answer."""
GRAM, SHORTEST_LOOP, MOST_SAID_BEFORE = 8, 16, 0.5
"""From 16 characters on (`hahaha` and most long numbers have fewer), at most half of an answer's runs of 8 characters
may have stood in it before. People stay below 0.4; what web pages have above 0.5 are lists that a machine filled in."""

FEWEST_CHARACTERS, MOST_SYMBOLS = 12, 0.5
"""From 12 characters on (`C++`, `$5.00`), at most half of them may be neither letters nor digits; prose has 0.03."""
FEWEST_STRAYS, MOST_STRAYS = 3, 0.25
"""At most this share of the pieces between white space may be bare `SIGNS`, where there are 3 or more of them."""

LONGEST_WORD = 60
"""Letters; the longest place name in use has 58."""
FEWEST_RARE, MOST_RARE = 3, 0.1
"""At most this share of the neighbouring letters may be `RARE_PAIRS`, where there are 3 or more of them. English has
0.0005, Polish and Maltese have up to 0.07, letters drawn at random 0.2."""
FEWEST_LETTERS, FEWEST_VOWELS = 20, 0.2
"""From 20 letters on, at least this share must be vowels, y among them. Prose has 0.4, a keyboard's middle row 0.1."""
FEWEST_BREAKS, MOST_BREAKS = 6, 0.25
"""At most this share of the neighbouring characters may be breaks (a capital behind a small letter, a sign or a digit
beside a letter, a rare pair), where there are 6 or more (`C6H12O6` has 5). Prose has 0.002, random characters 0.4."""

FEWEST_WORDS, MOST_COMMON, MOST_SHORT = 10, 0.06, 0.3
"""From 10 words on, an answer is word soup where at most 0.06 of them are `COMMON_WORDS` and fewer than 0.3 have at
most three letters: either speaks for a language. Prose has 0.4 of both, words drawn from a vocabulary 0.02 and 0.07."""
FEWEST_WORDS_A_STOP = 4
"""Where a comma, a line's end or the like comes more often it is a list, and lists need no common words."""

VOWELS = frozenset("aeiouy")
RARE_PAIRS = frozenset(
    first + second
    for first, seconds in {
        "b": "fgkpqxz", "c": "bfgjpvwx", "d": "kqx", "f": "bcdhkmpqvwxz", "g": "cqxz", "h": "gkqx",
        "j": "bcfghlpqrtvwxyz", "k": "cqxz", "l": "qx", "m": "qxz", "p": "qvxz", "q": "bcdfghjklmnopqrstvwxyz",
        "r": "qx", "s": "jqx", "t": "qx", "v": "bcfghjmpqwxz", "w": "gjqvxz", "x": "bdfgjkmnqrsvwz", "y": "jqxy",
        "z": "cfgjpqrtx",
    }.items()
    for second in seconds
)  # fmt: skip
"""Neighbours that make up less than 1 in 100 000 of the letter pairs of English web text and of names from all over the
world, less those that another language in Latin letters needs (sz, jk, zh, …)."""
SIGNS = frozenset("#$%&*+;<>@[\\]^_`")
"""Signs that hardly stand alone or inside a word, unlike the full stop, the bracket, the dash or code's `=`."""
COMMON_WORDS = frozenset(
    # English, then the commonest of some thirty other languages that write in Latin letters; accents are left out.
    (
        "a an the of to in and is was for on with as by at from that this it his her he she they their are were be or "
        "not has had have its which who i you we my your our but if can will do so all one there what when how no me "
        "him them been would more about up out into than then also "
        "der die das und ist von den dem des ein eine einer einen im mit fur auf nicht sich auch als er sie es zu war "
        "hat aus bei nach le la les de du et est un une en que qui dans pour il elle sur au par pas ne se ce avec sont "
        "el los las del y por con su lo al como mas fue son os o da dos das em na nos nas um uma e nao com foi ao pelo "
        "pela seu sua gli di della dei che per non si nel nella alla ha els i amb het van op te dat niet met zijn voor "
        "aan om ook bij naar och att det som av till inte han hon ett var og er af ikke ja ei etta oli mutta tai ovat "
        "myos niin kuin joka jossa on et oma kui ve bir bu ile cok olarak gibi daha olan w z nie to jest ze po za od "
        "jak byl v je s k pro jako u su iz az egy hogy nem volt ez meg es mint dan yang ke dari untuk dengan ini itu "
        "adalah pada tidak dalam oleh sebagai si cu pe nu este din care mai pentru ir yra kad buvo apie jis savo un "
        "no ar te ne dhe eta ez bat dira zen ya wa kwa ni katika ng sa ang mga at oo ku iyo ka waa ah yn mae ta li "
        "futhi ukuthi nga"
    ).split()
)

_WORD = re.compile(r"[^\W\d_]+")
_STOP = re.compile(r"[,;:\n|•]|[.!?](?=\s)")


def is_degenerate(answer: str) -> bool:
    """Whether `answer` is no language, for one of the reasons of `degeneracy`.

    Example:
        >>> [is_degenerate(answer) for answer in ("Oslo.", "東京", "{{{{", "the the the the the")]
        [False, False, True, True]
    """
    return degeneracy(answer) is not None


def degeneracy(answer: str) -> Reason | None:
    """Why `answer` is no language, or none where it may be.

    `empty`: it has no letter and no digit. `repetition`: it is one letter or one word, or most of it was said before.
    `symbols`: it is made of signs. `non-words`: its Latin letters do not follow each other as letters do in words.
    `word soup`: many words in Latin letters and hardly one that binds words together.

    It cannot see what needs knowledge of a language: the words of a sentence in another order, false or senseless
    statements, answers to another question, prose in which a loop is the lesser part, soup of fewer than ten words, and
    anything but the first three reasons in scripts other than Latin. Formulas, numbers of 16 digits and more, and
    program code can be taken for gibberish, as can sentences in a language with few short words whose common words
    `COMMON_WORDS` does not hold.

    Args:
        answer: What the model wrote.

    Returns:
        The first reason that holds, in the order above.

    Example:
        >>> degeneracy("It is it is it is it is it is."), degeneracy("sdkfjh qwlkj zxcvb fghjk")
        ('repetition', 'non-words')
    """
    text = unicodedata.normalize("NFC", answer).strip()[:JUDGED_CHARACTERS]
    return next((reason for reason, holds in _RULES.items() if holds(text)), None)


def fluency(answers: Sequence[str]) -> float:
    """The share of answers that are not degenerate, see `degeneracy`.

    Args:
        answers: [rows] what the model wrote.

    Returns:
        Between 0 and 1: 1 where every answer is language.

    Raises:
        MisconfigurationError: There is no answer.

    Example:
        >>> fluency(["Oslo.", "1990", "", "!!!!!"])
        0.5
    """
    if not len(answers):
        raise MisconfigurationError("fluency needs at least one answer, got none; ask a probe that has questions")
    return float(np.mean([not is_degenerate(answer) for answer in answers]))


class Fluency(RowMetric):
    """`fluency` of all answers of all processes.

    Args:
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = Fluency()
        >>> metric.update(["Oslo.", "1990"])
        >>> metric.update(["", "!!!!!"])
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__("fluent", **settings)

    def update(self, answers: Sequence[str]) -> None:
        """Add rows.

        Args:
            answers: [rows] what the model wrote.
        """
        self.append(fluent=[not is_degenerate(answer) for answer in answers])

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: There is no answer.
        """
        return self._mean("fluent")


def _is_empty(text: str) -> bool:
    return not any(char.isalnum() for char in text)


def _repeats(text: str) -> bool:
    text = " ".join(text.casefold().split())
    letters = [char for char in text if char.isalnum()]
    if len(letters) >= SAME_LETTERS and len(set(letters)) == 1 and letters[0].isalpha():
        return True
    words = [word.strip(".,;:!?") for word in text.split()]
    if len(words) >= SAME_WORDS and len(set(words)) == 1:
        return True
    grams = [text[start : start + GRAM] for start in range(len(text) - GRAM + 1)]
    return len(text) >= SHORTEST_LOOP and len(grams) - len(set(grams)) > MOST_SAID_BEFORE * len(grams)


def _is_made_of_signs(text: str) -> bool:
    pieces = text.split()
    characters = "".join(pieces)
    # Vowel signs and accents of many scripts are marks (M) beside the letter, and belong to it.
    signs = sum(not char.isalnum() and unicodedata.category(char)[0] != "M" for char in characters)
    strays = sum(SIGNS.issuperset(piece) for piece in pieces)
    return (len(characters) >= FEWEST_CHARACTERS and signs > MOST_SYMBOLS * len(characters)) or (
        strays >= FEWEST_STRAYS and strays > MOST_STRAYS * len(pieces)
    )


def _has_no_words(text: str) -> bool:
    words = [
        word for word in _latin_words(text) if not word.isupper()
    ]  # short ones in capitals are read letter by letter
    folded = [word.casefold() for word in words]
    letters = "".join(folded)
    pairs = [first + second for word in folded for first, second in pairwise(word)]
    rare = sum(pair in RARE_PAIRS for pair in pairs)
    vowels = sum(letter in VOWELS for letter in letters)
    return (
        max(map(len, words), default=0) > LONGEST_WORD
        or (rare >= FEWEST_RARE and rare > MOST_RARE * len(pairs))
        or (len(letters) >= FEWEST_LETTERS and vowels < FEWEST_VOWELS * len(letters))
        or _breaks_too_often(text)
    )


def _breaks_too_often(text: str) -> bool:
    joints = [(a, b) for piece in _without_accents(text).split() for a, b in pairwise(piece)]
    breaks = sum(_is_break(first, second) for first, second in joints)
    return breaks >= FEWEST_BREAKS and breaks > MOST_BREAKS * len(joints)


def _is_break(first: str, second: str) -> bool:
    if first.isalpha() and second.isalpha():
        pair = first + second
        return (first.islower() and second.isupper()) or (not pair.isupper() and pair.casefold() in RARE_PAIRS)
    other = second if first.isalpha() else first
    return (first.isalpha() or second.isalpha()) and (other.isdigit() or other in SIGNS)


def _is_word_soup(text: str) -> bool:
    words = [word.casefold() for word in _latin_words(text)]
    if len(words) < FEWEST_WORDS or len(words) < len(_WORD.findall(text)) / 2:
        return False
    if len(words) < FEWEST_WORDS_A_STOP * (len(_STOP.findall(text)) + 1):
        return False
    common = sum(word in COMMON_WORDS for word in words) / len(words)
    short = sum(len(word) <= 3 for word in words) / len(words)
    return common <= MOST_COMMON and short < MOST_SHORT


def _latin_words(text: str) -> list[str]:
    return [word for word in _WORD.findall(_without_accents(text)) if word.isascii()]


def _without_accents(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


_RULES: Mapping[Reason, Callable[[str], bool]] = {
    "empty": _is_empty,
    "repetition": _repeats,
    "symbols": _is_made_of_signs,
    "non-words": _has_no_words,
    "word soup": _is_word_soup,
}
