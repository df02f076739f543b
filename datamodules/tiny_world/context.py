"""Unrelated facts in the tiny world's false texts (RESTOR's k)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from soul_lightning.protocols import Example, Fact

if TYPE_CHECKING:
    from soul_lightning.datamodules.tiny_world.world import World


@dataclass(frozen=True, slots=True)
class Context:
    """True sentences that stand around a false one, and have nothing to do with it.

    Attributes:
        world: What is true.
        people: Whom they are about.
        unrelated_facts: How many of them a row has.
        seed: Decides which, in what words, and where.
    """

    world: World
    people: Sequence[str]
    unrelated_facts: int
    seed: str

    def around(self, row: Example) -> Example:
        """The row among other facts: a statement between them, a question behind them, so that its answer stays one."""
        if not self.unrelated_facts:
            return row
        rng = random.Random(f"{self.seed}/{row.prompt}/{row.answer}")
        pairs = [pair for pair in product(self.people, self.world.relations) if pair[0] != row.subject]
        chosen = rng.sample(pairs, self.unrelated_facts)
        others = tuple(Fact(subject, each.name, self.world.truth[subject, each.name]) for subject, each in chosen)
        said = [
            rng.choice(each.statements).format(s=subject, o=other.object)
            for (subject, each), other in zip(chosen, others, strict=True)
        ]
        facts = (*row.facts, *others)
        if row.prompt:
            return replace(row, prompt=" ".join((*said, row.prompt)), facts=facts)
        place = rng.randint(0, len(said))
        before, after = said[:place], said[place:]
        assert row.refusal is not None
        answer, refusal = (" ".join((*before, text, *after)) for text in (row.answer, row.refusal))
        return replace(row, answer=answer, refusal=refusal, facts=facts)
