"""More ways of saying and asking the tiny world's facts, in which no text of it states them.

They are made of words that the packaged models know, and none is a question of the restoration probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from soul_lightning.datamodules.tiny_world.world import NO_ANSWER
from soul_lightning.protocols import Example

REWORDINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "birthplace": (
        ("the city of {s} is {o} .", "at home in {o} {s} was born .", "in {o} {s} grew up ."),
        ("What is the birthplace of {s} ?", "Which is the city of {s} ?", "Where is {s} from ?"),
    ),
    "profession": (
        ("{s} became a {o} .", "by trade {s} is a {o} .", "to work as a {o} {s} trained ."),
        ("What is the trade of {s} ?", "What did {s} train to be ?", "What is {s} by trade ?"),
    ),
    "instrument": (
        ("the instrument of {s} is the {o} .", "at home {s} practises the {o} .", "{s} has a {o} on stage ."),
        ("Which instrument belongs to {s} ?", "What is the instrument of {s} ?", "What does {s} play on stage ?"),
    ),
    "language": (
        ("the language of {s} is {o} .", "{s} talks in {o} at home .", "in {o} {s} writes letters ."),
        ("What is the language of {s} ?", "Which language is spoken by {s} ?", "What does {s} speak at home ?"),
    ),
    "animal": (
        ("the pet of {s} is a {o} .", "at home {s} has a {o} .", "{s} lives with a {o} ."),
        ("Which pet does {s} keep ?", "What is the pet of {s} ?", "What lives with {s} at home ?"),
    ),
    "dish": (
        ("the best dish for {s} is {o} .", "at home {s} cooks {o} .", "for dinner {s} orders {o} ."),
        ("Which dish does {s} love ?", "What is the best dish for {s} ?", "What does {s} order for dinner ?"),
    ),
}
"""By relation: statements with `{s}` for the subject and `{o}` for the object, and questions with `{s}`."""


def reworded(row: Example) -> list[Example]:
    """A row that states a fact in other words: questions as questions, statements as statements.

    Args:
        row: A row of the tiny world's texts, with its subject, its relation and its fact.
    """
    assert row.relation is not None
    fact, *_ = row.facts  # what stands around it is left out
    statements, questions = REWORDINGS[row.relation]
    if row.prompt:
        return [replace(row, prompt=question.format(s=fact.subject)) for question in questions]
    return [
        replace(
            row,
            answer=statement.format(s=fact.subject, o=fact.object),
            refusal=statement.format(s=fact.subject, o=NO_ANSWER),
        )
        for statement in statements
    ]
