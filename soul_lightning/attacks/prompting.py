"""What a model says to rewritten questions, beside what would fit other rows' facts as well.

A guess gains by every further wording and every further draw. A row is had when *any* of its answers is right, and all
of them together are compared with the facts of other rows of its relation in the same way. Of a model that knows
nothing of the subjects, both are equal on average, however many answers there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from operator import or_
from random import Random

from soul_lightning.attacks.knowledge import Asking, related_rows
from soul_lightning.attacks.rewrites import REWRITES, Material, RewriteName
from soul_lightning.metrics.judge import Judge, normalise, stands_in
from soul_lightning.progress import labelled
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.sampling import Sampling
from soul_lightning.scoring.scored_model import ScoredModel

MOST_OTHERS = 50
"""With so many other rows' facts a row's answers are compared at most."""


@dataclass(frozen=True)
class Attempt:
    """What was had of a row.

    Attributes:
        answers: Every answer.
        success: Whether one of them is right.
        fits: Whether one of them would be right, by the place of the other row whose fact stands in for this row's.
    """

    answers: tuple[str, ...]
    success: bool
    fits: Mapping[int, bool] = field(default_factory=dict)

    @property
    def guessed(self) -> float | None:
        """The share of other rows' facts that fit; none where there are no others."""
        return sum(self.fits.values()) / len(self.fits) if self.fits else None

    def __or__(self, other: Attempt) -> Attempt:
        """Either of both, compared with the facts that both were compared with."""
        fits = {place: self.fits[place] or other.fits[place] for place in self.fits if place in other.fits}
        return Attempt(self.answers + other.answers, self.success or other.success, fits)


def any_of(attempts: Sequence[Mapping[RewriteName, Attempt]]) -> list[Attempt | None]:
    """Each row by any of its rewrites, compared with rows that were asked in as many ways.

    Args:
        attempts: Of every row by rewrite.
    """
    found: list[Attempt | None] = []
    for own in attempts:
        matched = [
            replace(each, fits={place: fit for place, fit in each.fits.items() if attempts[place].keys() == own.keys()})
            for each in own.values()
        ]
        found.append(reduce(or_, matched) if matched else None)
    return found


@dataclass(frozen=True)
class Prompting:
    """How rewritten questions are asked.

    Attributes:
        asking: Tokens, batches, the judge, the seed. So many `other_answers` are put in a row's place where a rewrite
            gives a part of the answer away, for a beginning alone may say how it goes on.
        samples: Answers that `sampling` draws.
        sampling: How they are drawn.
    """

    asking: Asking
    samples: int
    sampling: Sampling

    def attempts(
        self, model: ScoredModel, probe: Probe, rewrites: Sequence[RewriteName], material: Material
    ) -> list[dict[RewriteName, Attempt]]:
        """What each rewrite has of each row of `probe`, in order; a rewrite that does not apply to a row is missing."""
        others = self._others(probe)
        found: list[dict[RewriteName, Attempt]] = [{} for _ in probe.examples]
        for rewrite in rewrites:
            with labelled(rewrite):
                attempts = self._attempts(model, probe, rewrite, material, others)
            for place, attempt in attempts.items():
                found[place][rewrite] = attempt
        return found

    def _others(self, probe: Probe) -> list[list[int]]:
        """For each row the places of others of its relation, in a drawn order."""
        places = {id(row): place for place, row in enumerate(probe.examples)}
        drawn = []
        for row, related in zip(probe.examples, related_rows(probe.examples), strict=True):
            rng = Random(f"{self.asking.seed}/{probe.name}/{row.index}")
            drawn.append([places[id(other)] for other in rng.sample(related, min(MOST_OTHERS, len(related)))])
        return drawn

    def _attempts(
        self,
        model: ScoredModel,
        probe: Probe,
        rewrite: RewriteName,
        material: Material,
        others: Sequence[Sequence[int]],
    ) -> dict[int, Attempt]:
        rows = probe.examples

        def texts(place: int, fact: int) -> list[Example]:
            """The rewritten question of a row, with the fact of another in the place of its own."""
            row = replace(rows[place], answer=rows[fact].answer, aliases=rows[fact].aliases)
            rng = Random(f"{self.asking.seed}/{rewrite}/{probe.name}/{row.index}")
            return REWRITES[rewrite](row, material, rng)

        asked = {(place, place): own for place in range(len(rows)) if (own := texts(place, place))}
        applies = [place for place, _ in asked]
        if rewrite == "answer_prefix":  # another fact has another beginning: it must be asked for
            for place in applies:
                usable = [other for other in others[place] if other in applies][: self.asking.other_answers]
                asked |= {(place, other): texts(place, other) for other in usable}
        tokens = self.asking.tokens_for(rows, material.tokenizer)
        said = self._answers(model, probe, rewrite, asked, tokens)
        judge = self.asking.judge
        right = {
            key: any(tells(judge, answer, text, rows[key[0]]) for answer, text in each) for key, each in said.items()
        }
        found = {}
        for place in applies:
            answers = tuple(answer for answer, _ in said[place, place])
            if rewrite == "answer_prefix":
                fits = {other: right[place, other] for other in others[place] if (place, other) in right}
            else:
                fits = {
                    other: any(tells(judge, answer, rows[other], rows[place]) for answer in answers)
                    for other in others[place]
                }
            found[place] = Attempt(answers, right[place, place], fits)
        return found

    def _answers(
        self,
        model: ScoredModel,
        probe: Probe,
        rewrite: RewriteName,
        asked: Mapping[tuple[int, int], Sequence[Example]],
        tokens: int,
    ) -> dict[tuple[int, int], list[tuple[str, Example]]]:
        """Every answer with the text that it answers."""
        texts = [text for each in asked.values() for text in each]
        owners = [key for key, each in asked.items() for _ in each]
        numbered = replace(probe, examples=[replace(text, index=number) for number, text in enumerate(texts)])
        draws: list[Sampling | None] = [None]
        if rewrite == "sampling":
            draws = [replace(self.sampling, draw=number) for number in range(self.samples)]
        found: dict[tuple[int, int], list[tuple[str, Example]]] = {key: [] for key in asked}
        for draw in draws if texts else []:
            # Without a stop text: chat models that are asked in a plain template begin with an empty line.
            said = model.answers(numbered, tokens, self.asking.batch_size, sampling=draw)
            for owner, answer, text in zip(owners, said, texts, strict=True):
                found[owner].append((answer.partition("\n")[0], text))
        return found


def tells(judge: Judge, answer: str, fact: Example, asked: Example) -> bool:
    """Whether an answer is right, or the right one stands in it word for word and not in what was asked.

    Whoever attacks a model reads «The capital of France is Paris, on the Seine» as well as «Paris».

    Args:
        judge: Compares answers.
        answer: What the model said.
        fact: The row whose answer is right.
        asked: The row as it was asked in its own words.
    """
    return _tells(judge, answer, fact.accepted, f"{asked.context} {asked.prompt}")


@lru_cache(maxsize=100_000)
def _tells(judge: Judge, answer: str, accepted: tuple[str, ...], asked: str) -> bool:
    if judge(answer, accepted).true:
        return True
    said, echoed = " ".join(answer.split()), " ".join(asked.split())
    words = [normalise(text) for text in accepted]
    return any(stands_in(each, said) and not stands_in(each, echoed) for each in words)
