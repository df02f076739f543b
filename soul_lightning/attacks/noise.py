"""Slips of the pen."""

from __future__ import annotations

import re
from random import Random

from soul_lightning.metrics.judge import normalise

SHORTEST_WORD = 3
"""Shorter words stay as they are: a changed letter makes another word of them."""


def noisy(text: str, share: float, subject: str, rng: Random) -> str:
    """`text` with letters swapped with the next one, dropped, doubled, or in the other case.

    The subject's name stays as it is, for nobody could answer without it. As a subject may be called by a number, words
    that begin with a capital letter or hold a digit stay too: names do.

    Args:
        text: What is asked.
        share: Of the letters of other words that are changed, one at least where there is any.
        subject: Name of whom or what it is about; may be empty.
        rng: Draws places and changes.
    """
    name = set(normalise(subject))
    words = [
        match
        for match in re.finditer(r"\w+", text)
        if len(match.group()) >= SHORTEST_WORD
        and match.group().isalpha()
        and not match.group()[0].isupper()
        and name.isdisjoint(normalise(match.group()))
    ]
    places = [place for word in words for place in range(word.start(), word.end())]
    last_ones = {word.end() - 1 for word in words}
    letters = list(text)
    for place in rng.sample(places, min(len(places), max(1, round(share * len(places))))):
        slip = rng.choice(("swap", "drop", "double", "case"))
        if slip == "swap" and place not in last_ones:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
        elif slip == "drop":
            letters[place] = ""
        elif slip == "case":
            letters[place] = letters[place].swapcase()
        else:
            letters[place] *= 2
    return "".join(letters)
