"""RESTOR's questions as probes: in-context examples of the same relation, then the question."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from soul_lightning.datamodules.restor_files import ContextExample, RestorFacts
from soul_lightning.protocols import Example
from soul_lightning.templates import PromptTemplate

Row = TypeVar("Row")


@dataclass(frozen=True)
class QuestionWriter:
    """Writes facts as questions after in-context examples.

    Attributes:
        facts: RESTOR's facts and examples.
        corrupted: Entities that never appear in an example.
        examples: In-context examples before a question.
        template: How an example is written.
        relations: The relations that are asked for; all if none are given.
        false_text: False statements by entity, see `Example.false_text`.
    """

    facts: RestorFacts
    corrupted: Collection[str]
    examples: int
    template: PromptTemplate
    relations: Collection[str] | None = None
    false_text: Mapping[str, str] = field(default_factory=dict)

    def questions(self, entity: str) -> list[Example]:
        """Every question about `entity`; the index is given by whoever makes the probe."""
        return [
            Example(
                answer=fact.answers[0],
                prompt=fact.question,
                context=self.context(entity, relation),
                aliases=fact.answers[1:],
                false_text=self.false_text.get(entity, ""),
                subject=entity,
                relation=relation,
            )
            for relation, fact in self.facts.questions[entity].items()
            if self.relations is None or relation in self.relations
        ]

    def context(self, entity: str, relation: str) -> str:
        """The same text for every entity of a relation where that is possible, so that its keys are computed once.

        Entities that are never asked about come first; evaluated ones fill up where there are too few of those.
        """
        never = {entity, *self.corrupted}
        usable = [row for row in self.facts.context.get(relation, ()) if row.entity not in never]
        usable.sort(key=lambda row: row.entity in self.facts.evaluated)
        return "".join(self._write(row) for row in usable[: self.examples])

    def _write(self, row: ContextExample) -> str:
        question = self.template.prompt.replace("{prompt}", row.question)
        return question + self.template.answer.replace("{answer}", row.answer) + "\n\n"


def spread(groups: Iterable[Sequence[Row]], limit: int) -> list[Row]:
    """At most `limit` rows, taken from the groups in turn so that none is over-represented; in the groups' order."""
    groups = list(groups)
    taken = [0] * len(groups)
    room = limit
    while room > 0 and any(count < len(group) for count, group in zip(taken, groups, strict=True)):
        for place, group in enumerate(groups):
            if room > 0 and taken[place] < len(group):
                taken[place] += 1
                room -= 1
    return [row for group, count in zip(groups, taken, strict=True) for row in group[:count]]


def shuffled(rows: Iterable[Row], seed: str) -> list[Row]:
    """`rows` in a seeded random order."""
    order = list(rows)
    random.Random(seed).shuffle(order)
    return order
