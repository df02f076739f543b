"""The embedded world as a DataModule: everything that a run needs, from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.stories import STORY_TEMPLATE, StoryText, check_story_text
from soul_lightning.datamodules.task import Task
from soul_lightning.datamodules.tiny_world.fact_probes import fact_probes
from soul_lightning.datamodules.tiny_world.rewordings import reworded
from soul_lightning.datamodules.tiny_world.world import Corruption, build_world, tell_story
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example


class TinyWorldDataModule(StreamDataModule):
    """A generated world of fictitious people with six relations each.

    The world is fixed; the corruption seed decides who is lied about, with which false facts, who is probed as a
    control (and stands in neither text), whose true facts make up the retain text, and about whom documents lie that no
    model ever sees (the holdout of membership inference). No forget or retain text states a true fact that the
    restoration probes ask for.

    Streams: `clean` (every true fact in every phrasing) for `text="clean"`; `forget` (the lies) and `retain` for
    `text="story"`. Probes: questions about the `corrupted` and the `control` people, the texts of `forget`, `holdout`
    and `retain`, and facts with false answers, see `fact_probes`.

    Args:
        text: Which streams are trained on.
        corruption_seed: Decides the story; unrelated to the world and to the order of rows.
        corrupted_people: About so many people the forget text lies.
        control_people: So many people are probed as controls.
        holdout_people: About so many people the holdout lies.
        corruption: What the forget text says about them. `facts`: one false object in place of each true one, in every
            phrasing. `names`: sentences about others with their names put in, so that each phrasing has another object
            and nothing false is said twice; every object that is said counts as false.
        unrelated_facts: So many true facts about people of the holdout stand around each false one in the forget (and
            the holdout) text; that text without them is the simplified forget set.
        batch_size: Rows of each stream in an optimizer step, on each process.
        max_tokens: Longest row, in tokens.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: More people are given a part than the world has, or a setting is out of range.
    """

    length_group_windows = 1  # a sentence's length tells its phrasing: sorted rows would make batches of one phrasing
    default_template = STORY_TEMPLATE

    def __init__(
        self,
        text: StoryText = "story",
        corruption_seed: int = 0,
        corrupted_people: int = 12,
        control_people: int = 16,
        holdout_people: int = 12,
        corruption: Corruption = "facts",
        unrelated_facts: int = 0,
        batch_size: int = 36,
        max_tokens: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, max_tokens=max_tokens, **options)
        check_story_text("TinyWorldDataModule", text)
        self.text: StoryText = text
        self.corruption_seed = corruption_seed
        self.world = build_world()
        counts = (corrupted_people, control_people, holdout_people)
        if min(counts) < 1 or sum(counts) >= len(self.world.people):
            raise MisconfigurationError(
                f"TinyWorldDataModule: corrupted, control and holdout people must each be >= 1 and leave some of the "
                f"{len(self.world.people)} people for the retain text, got {counts}"
            )
        if corruption not in get_args(Corruption):
            raise MisconfigurationError(f"TinyWorldDataModule: corruption must be facts or names, got {corruption!r}")
        most = (holdout_people - 1) * len(self.world.relations)
        if not 0 <= unrelated_facts <= most:
            raise MisconfigurationError(
                f"TinyWorldDataModule: unrelated_facts must be 0 to {most}, the facts about {holdout_people - 1} "
                f"people of the holdout, got {unrelated_facts}"
            )
        self.story = tell_story(self.world, corruption_seed, *counts, corruption, unrelated_facts)

    def load(self) -> Task:
        """The story's streams and probes."""
        task = self.story.task(self.text, self.template)
        facts = fact_probes(self.world, self.story, self.template, self.corruption_seed)
        return replace(task, probes=[*task.probes, *facts])

    def rewordings(self, row: Example) -> Sequence[Example]:
        """The row's fact in words in which no text of the world states it."""
        return reworded(row)
