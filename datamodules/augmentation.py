"""Augmentation of the forget set: the same rows in other words, and behind statements about something else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from transformers import PreTrainedTokenizerBase

from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.overlap import fact_keys
from soul_lightning.datamodules.sampling import shuffled
from soul_lightning.datamodules.task import Task
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example
from soul_lightning.reframing import reframed
from soul_lightning.templates import PromptTemplate

logger = logging.getLogger(__name__)

STATEMENT_CHARACTERS = 200
"""Longer retain rows are no short statements."""


@dataclass(frozen=True)
class Augmentation:
    """Rows that are added to what is forgotten, so that it is forgotten in more contexts than it was written in.

    An added row keeps its row's answer and labels, refusal, paraphrase and false answers, subject and facts, and has a
    number of its own. In YAML: `augmentation: {paraphrases: 2, unrelated_facts: 3}`.

    Attributes:
        paraphrases: Add each row in so many other wordings: those that the DataModule knows for it, then, for rows with
            a prompt, frames around the question that fit any. Wordings that stand there already, and those with words
            that the tokenizer does not have, are passed over, so that a row may get fewer.
        unrelated_facts: Add each row once more behind so many short retain rows about other subjects, which carry no
            label (the k of RESTOR's corruptions, Rezaei et al. 2025). None stands behind it: what follows an answer
            cannot change how likely a causal model finds it.
        seed: Seed of what is drawn; runs that are compared share it.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    paraphrases: int = 0
    unrelated_facts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what adds nothing."""
        check_counts("augmentation", paraphrases=(self.paraphrases, 0), unrelated_facts=(self.unrelated_facts, 0))
        if not self.paraphrases and not self.unrelated_facts:
            raise MisconfigurationError(
                "augmentation: paraphrases and unrelated_facts are both 0, which adds no row; set one of them, or "
                "leave augmentation out"
            )


@dataclass(frozen=True)
class Augmenter:
    """Augments the forget stream of one DataModule.

    Attributes:
        settings: How much is added.
        rewordings: The wordings that the DataModule knows of a row.
        tokenizer: Its vocabulary decides which wordings can be written.
        template: How rows are written and labelled.
    """

    settings: Augmentation
    rewordings: Callable[[Example], Sequence[Example]]
    tokenizer: PreTrainedTokenizerBase
    template: PromptTemplate

    def __call__(self, task: Task) -> Task:
        """The task with more forget rows, behind its own, numbered on from the largest number there.

        Args:
            task: Has a stream `forget`.

        Raises:
            MisconfigurationError: There is nothing to forget, no row can be worded otherwise, or there are too few
                short retain rows.
        """
        if "forget" not in task.streams:
            raise MisconfigurationError(
                f"augmentation adds rows to the forget stream, and this task trains on {', '.join(task.streams)}; "
                f"leave augmentation out"
            )
        own = task.streams["forget"]
        added = [*self._paraphrases(own), *self._behind_others(own, task.streams.get("retain", ()))]
        numbers = count(max(row.index for row in own) + 1)
        rows = [replace(row, index=number) for row, number in zip(added, numbers, strict=False)]
        logger.info("%d forget rows are added to %d", len(rows), len(own))
        return replace(task, streams={**task.streams, "forget": [*own, *rows]})

    def _paraphrases(self, own: Sequence[Example]) -> list[Example]:
        if not self.settings.paraphrases:
            return []
        taken = {_said(row) for row in own}
        found: list[Example] = []
        for row in own:
            before = len(found)
            for other in self._candidates(row):
                if len(found) - before < self.settings.paraphrases and _said(other) not in taken:
                    taken.add(_said(other))
                    found.append(other)
        if not found:
            raise MisconfigurationError(
                f"augmentation.paraphrases={self.settings.paraphrases}: none of the {len(own)} forget rows can be "
                f"worded otherwise, for they are plain texts, or the tokenizer lacks the words; set it to 0, or give "
                f"rows with prompts"
            )
        return found

    def _candidates(self, row: Example) -> Iterator[Example]:
        key = f"{self.settings.seed}/{row.index}"
        frames = [replace(row, prompt=prompt) for prompt in reframed(row.prompt)] if row.prompt else []
        unknown = self._unknown_words(row)
        for other in (*shuffled(self.rewordings(row), key), *shuffled(frames, key)):
            if self._unknown_words(other) <= unknown:
                yield other

    def _unknown_words(self, row: Example) -> int:
        unknown = self.tokenizer.unk_token_id
        ids: list[int] = self.tokenizer(f"{row.prompt} {row.answer}", add_special_tokens=False)["input_ids"]
        return ids.count(unknown) if isinstance(unknown, int) else 0

    def _behind_others(self, own: Sequence[Example], retain: Sequence[Example]) -> list[Example]:
        wanted = self.settings.unrelated_facts
        if not wanted:
            return []
        if self.template.labels == "all":
            raise MisconfigurationError(
                "augmentation.unrelated_facts puts retain rows before forget rows, and template.labels=all would have "
                "them forgotten too; set template.labels to answer"
            )
        short = [(row, text) for row in retain if len(text := _statement(row)) <= STATEMENT_CHARACTERS]
        return [replace(row, context=self._statements(row, short) + row.context) for row in own]

    def _statements(self, row: Example, short: Sequence[tuple[Example, str]]) -> str:
        """So many statements about other subjects, each of another subject as far as they have one."""
        facts, subjects = fact_keys([row]), {row.subject}
        texts: list[str] = []
        order = shuffled(range(len(short)), f"{self.settings.seed}/{row.index}/unrelated")
        for other, text in (short[place] for place in order):
            if len(texts) == self.settings.unrelated_facts:
                break
            if (other.subject is None or other.subject not in subjects) and facts.isdisjoint(fact_keys([other])):
                subjects.add(other.subject)
                texts.append(text)
        if len(texts) < self.settings.unrelated_facts:
            raise MisconfigurationError(
                f"augmentation.unrelated_facts={self.settings.unrelated_facts}, and {len(texts)} of the {len(short)} "
                f"retain rows in memory with at most {STATEMENT_CHARACTERS} characters are about subjects of their own "
                f"beside that of forget row {row.index}; lower it, or give more short retain rows that are not streamed"
            )
        return "".join(text + self.template.between for text in texts)


def _statement(row: Example) -> str:
    return f"{row.prompt} {row.answer}".strip()


def _said(row: Example) -> tuple[object, ...]:
    return row.context, row.turns, row.prompt, row.answer
