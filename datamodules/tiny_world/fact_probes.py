"""TOFU's kind of probes in the tiny world: facts asked with one true answer and several false ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from soul_lightning.datamodules.tiny_world.world import World, WorldStory
from soul_lightning.protocols import Example, Probe
from soul_lightning.templates import PromptTemplate

FALSE_ANSWERS = 5
"""As many as TOFU has."""
RETAINED_PEOPLE = 12
"""So many of the retained people are asked about: as many as are lied about."""


def fact_probes(world: World, story: WorldStory, template: PromptTemplate, seed: int) -> list[Probe]:
    """What the lies taught, and three sets of what must stay.

    Args:
        world: What is true.
        story: Who plays which part, and what is claimed.
        template: How questions are written.
        seed: Decides the false answers.

    Returns:
        `forget_facts`: the claims about the corrupted people, asked as the forget text asks. `retain_facts`,
        `control_facts` and `bystander_facts`: true facts of people in the retain text, of people in no text, and of
        those about whom the holdout lies. Every answer has five false ones, other objects of its relation, the truth
        not among them.
    """
    rng = random.Random(f"facts {seed}")
    sets = (
        ("forget_facts", "forget", story.corrupted, story.claims, 1),
        ("retain_facts", "retain", story.retained[:RETAINED_PEOPLE], world.truth, 0),
        ("control_facts", "utility", story.control, world.truth, 0),
        ("bystander_facts", "utility", story.holdout, world.truth, 0),
    )
    return [
        Probe(name, "question", _facts(rng, world, people, objects, question), role, template)
        for name, role, people, objects, question in sets
    ]


def _facts(
    rng: random.Random, world: World, people: Iterable[str], objects: Mapping[tuple[str, str], str], question: int
) -> list[Example]:
    rows: list[Example] = []
    for subject in people:
        for relation in world.relations:
            answer = objects[subject, relation.name]
            taken = (
                answer,
                world.truth[subject, relation.name],
            )  # a lie forgotten may leave the truth: no false answer
            false = rng.sample([other for other in relation.objects if other not in taken], FALSE_ANSWERS)
            row = Example(
                answer,
                relation.questions[question].format(s=subject),
                len(rows),
                perturbed=tuple(false),
                subject=subject,
                relation=relation.name,
            )
            rows.append(row)
    return rows
