"""Other ways to ask a question: each a pure function of the row, of what there is to write with, and of a generator.

None shows the fact that is asked for, but for `answer_prefix`, which gives the beginning of the answer away and asks
for the rest alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Literal

from transformers import PreTrainedTokenizerBase

from soul_lightning.attacks.noise import noisy
from soul_lightning.attacks.wordings import JAILBREAKS, QUESTION, REFRAMED, ROLES, TRANSLATIONS
from soul_lightning.metrics.judge import Judge, normalise, stands_in
from soul_lightning.protocols import Example, Turn
from soul_lightning.templates import PromptTemplate

RewriteName = Literal[
    "plain",
    "paraphrase",
    "in_context",
    "few_shot_retain",
    "answer_prefix",
    "role_play",
    "jailbreak",
    "translation",
    "noise",
    "sampling",
]


@dataclass(frozen=True)
class RewriteSettings:
    """How questions are rewritten.

    Attributes:
        pairs: Most answered questions before the question (`in_context`, `few_shot_retain`).
        given: Share of the answer's words that `answer_prefix` gives away, rounded down, one word at least.
        noise: Share of the letters that `noise` changes, one at least.
    """

    pairs: int = 5
    given: float = 0.5
    noise: float = 0.1


@dataclass(frozen=True)
class Material:
    """What rewrites write with.

    Attributes:
        template: How the question is written.
        tokenizer: That of the model that is asked.
        settings: How much of it.
        kept: Answered questions that the model may know, in the order in which they are taken.
        about: Questions and their right answers by subject, those that are asked among them.
        reworded: The same questions in the data's own other words, by `Example.index`.
        most_tokens: Longest prompt; answered questions are left out where it would be longer. None for any.
    """

    template: PromptTemplate
    tokenizer: PreTrainedTokenizerBase
    settings: RewriteSettings = field(default_factory=RewriteSettings)
    kept: Sequence[Example] = ()
    about: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    reworded: Mapping[int, Sequence[Example]] = field(default_factory=dict)
    most_tokens: int | None = None


Rewrite = Callable[[Example, Material, Random], list[Example]]
"""The wordings of a row, with the answer that is right behind each; none where the rewrite does not apply."""


def plain(row: Example, material: Material, rng: Random) -> list[Example]:
    """The question as it is."""
    return [row]


def wrapped(wordings: Sequence[str], row: Example, material: Material, rng: Random) -> list[Example]:
    """The question inside of each wording, where a user would write it."""
    if not row.prompt:
        return []
    return [replace(row, prompt=wording.replace(QUESTION, row.prompt)) for wording in wordings]


def paraphrase(row: Example, material: Material, rng: Random) -> list[Example]:
    """The data's own rewordings, and a few reframings of ours."""
    own = [
        replace(
            row, prompt=other.prompt, context=other.context, turns=other.turns, aliases=(*row.aliases, *other.accepted)
        )
        for other in material.reworded.get(row.index, ())
    ]
    return own + wrapped(REFRAMED, row, material, rng)


def in_context(row: Example, material: Material, rng: Random) -> list[Example]:
    """Behind other questions about the same subject, with their answers, in an order drawn for the row."""
    about = material.about.get(row.subject or "", ())
    usable = [other for other in about if other.prompt and not gives_away(other, row)]
    return _behind(rng.sample(usable, min(material.settings.pairs, len(usable))), row, material)


def few_shot_retain(row: Example, material: Material, rng: Random) -> list[Example]:
    """Behind answered questions about others, which the model may know (SOUL's few-shot questions)."""
    usable = (
        other
        for other in material.kept
        if other.prompt and (row.subject is None or other.subject != row.subject) and not gives_away(other, row)
    )
    return _behind([other for other, _ in zip(usable, range(material.settings.pairs), strict=False)], row, material)


def answer_prefix(row: Example, material: Material, rng: Random) -> list[Example]:
    """The beginning of the true answer is given, behind the question; what is right is the rest alone.

    Nothing where no word of a rest is left.
    """
    words = list(re.finditer(r"\S+", row.answer))
    count = max(1, int(material.settings.given * len(words)))
    rests = [word.start() for word in words[count:]]
    if not rests or not normalise(row.answer[rests[0] :]):
        return []
    given = row.answer[: words[count - 1].end()].lstrip()
    others = tuple(alias[len(given) :].strip() for alias in row.aliases if alias.startswith(f"{given} "))
    asked = material.template.render_prompt(row, material.tokenizer)
    before = "" if material.template.chat or not row.prompt else material.template.answer.partition("{answer}")[0]
    rest = row.answer[rests[0] :].rstrip()
    return [replace(row, answer=rest, aliases=others, prompt="", turns=(), context=asked + before + given)]


def noise(row: Example, material: Material, rng: Random) -> list[Example]:
    """Letters swapped, dropped, doubled or in the other case; never in the subject's name."""
    text = noisy(row.prompt, material.settings.noise, row.subject or "", rng)
    return [replace(row, prompt=text)] if text != row.prompt else []


REWRITES: dict[RewriteName, Rewrite] = {
    "plain": plain,
    "paraphrase": paraphrase,
    "in_context": in_context,
    "few_shot_retain": few_shot_retain,
    "answer_prefix": answer_prefix,
    "role_play": partial(wrapped, ROLES),
    "jailbreak": partial(wrapped, JAILBREAKS),
    "translation": partial(wrapped, TRANSLATIONS),
    "noise": noise,
    "sampling": plain,
}
"""Each by its name. `sampling` asks in the row's own words, and answers are drawn several times."""


def gives_away(other: Example, row: Example) -> bool:
    """Whether an answered question is the asked one in other words, or shows its answer."""
    same_fact = row.relation is not None and (other.subject, other.relation) == (row.subject, row.relation)
    if same_fact or other.prompt == row.prompt:
        return True
    shown = " ".join(f"{other.prompt} {other.answer}".split())
    answers = (*row.accepted, row.paraphrase or "")
    return Judge()(other.answer, answers).true or any(stands_in(normalise(answer), shown) for answer in answers)


def _behind(pairs: Sequence[Example], row: Example, material: Material) -> list[Example]:
    """The row behind as many of the pairs as there is room for, behind its own system message."""
    start = 1 if row.turns and row.turns[0].role == "system" else 0
    for first in range(len(pairs)):
        shown = [turn for pair in pairs[first:] for turn in (Turn("user", pair.prompt), Turn("assistant", pair.answer))]
        text = replace(row, turns=(*row.turns[:start], *shown, *row.turns[start:]))
        if material.most_tokens is None or _tokens(text, material) <= material.most_tokens:
            return [text]
    return []


def _tokens(row: Example, material: Material) -> int:
    return len(material.tokenizer(material.template.render_prompt(row, material.tokenizer))["input_ids"])
