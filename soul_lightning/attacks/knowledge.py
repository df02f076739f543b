"""Does a model know what it is asked, beyond what guessing gets right?

A model that never saw a fact may still say it: there are few cities to be born in. Each row is therefore compared with
the answers to *other* rows of its relation. Where a model knows nothing of a subject, its answer fits the other
subjects as well as this one, so that what a row is worth above them is 0 on average, whatever the model prefers to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from transformers import PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.judge import Judge
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.measured_rows import Value
from soul_lightning.scoring.scored_model import ScoredModel

ROOM, MOST_TOKENS = 8, 128
"""Tokens of an answer beyond the right one, and of any answer, where its length follows from the right ones."""


@dataclass(frozen=True)
class Asking:
    """How a model is asked what it knows.

    Attributes:
        max_new_tokens: Most tokens of an answer; none for what the right answers take, see `tokens_for`.
        batch_size: Questions answered at once.
        other_answers: So many answers to other questions of the relation are put beside each row's own.
        judge: Compares an answer with the right one.
        seed: Of the draw of other answers.
    """

    max_new_tokens: int | None = None
    batch_size: int = 32
    other_answers: int = 4
    judge: Judge = field(default_factory=Judge)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that hold nothing."""
        for name in ("max_new_tokens", "batch_size", "other_answers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise MisconfigurationError(f"asking.{name} must be >= 1, got {value}")

    def tokens_for(self, rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> int:
        """Most tokens of an answer to one of these rows.

        Args:
            rows: With their right answers.
            tokenizer: Of the model that is asked.

        Returns:
            `max_new_tokens`; without one those of the longest right answer and `ROOM` for other words, `MOST_TOKENS`
            in all.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        texts = [text for row in rows for text in row.accepted]
        longest = max(map(len, tokenizer(texts)["input_ids"])) if texts else 0
        return min(longest + ROOM, MOST_TOKENS)


def knowledge(model: ScoredModel, probe: Probe, asking: Asking) -> dict[int, dict[str, Value]]:
    """What a model knows of each row, by `Example.index`.

    Args:
        model: The model.
        probe: Questions; or texts, of which only `log_prob` and `probability` are known.
        asking: How it is asked.

    Returns:
        `answer`, the greedy one; `known`, whether it is judged right; `guessed`, the share of other rows of the
        relation whose right answer it is too; `log_prob`, nats a token of the right answer, and `probability`, its
        exponential; `preference`, the share of other answers of the relation that are less likely (the same words
        count one half), 0.5 by guessing. What cannot be had of a row is left out.
    """
    rows: dict[int, dict[str, Value]] = {row.index: {} for row in probe.examples}
    for index, score in model.scores(probe).items():
        rows[index] |= {"log_prob": -score.mean_nll, "probability": score.probability}
    if probe.kind == "question":
        for found in (_answers(model, probe, asking), _preferences(model, probe, asking, rows)):
            for index, values in found.items():
                rows[index] |= values
    return rows


def _answers(model: ScoredModel, probe: Probe, asking: Asking) -> dict[int, dict[str, Value]]:
    tokens = asking.tokens_for(probe.examples, model.adapter.tokenizer)
    said = model.answers(probe, tokens, asking.batch_size, stop="\n")
    others = {id(row): related for row, related in zip(probe.examples, related_rows(probe.examples), strict=True)}
    found: dict[int, dict[str, Value]] = {}
    for row, answer in zip(probe.examples, said, strict=True):
        found[row.index] = {"answer": answer, "known": is_right(asking.judge, answer, row)}
        fits = [is_right(asking.judge, answer, other) for other in others[id(row)]]
        if fits:
            found[row.index]["guessed"] = sum(fits) / len(fits)
    return found


def is_right(judge: Judge, answer: str, row: Example) -> bool:
    """Whether `answer` is the one of `row`; its false answers are not looked at, for other rows' may be right there."""
    return judge(answer, row.accepted).true


def _preferences(
    model: ScoredModel, probe: Probe, asking: Asking, known: Mapping[int, Mapping[str, Value]]
) -> dict[int, dict[str, Value]]:
    texts: list[Example] = []
    owners: list[int] = []
    equal: dict[int, int] = {}
    for row, related in zip(probe.examples, related_rows(probe.examples), strict=True):
        rng = Random(f"{asking.seed}/{probe.name}/{row.index}")
        for other in rng.sample(related, min(asking.other_answers, len(related))):
            if other.answer.casefold() == row.answer.casefold():
                equal[row.index] = equal.get(row.index, 0) + 1
            else:
                texts.append(replace(row, answer=other.answer, index=len(texts)))
                owners.append(row.index)
    scores = model.score_texts(texts, probe) if texts else {}
    below: dict[int, list[float]] = {index: [0.5] * count for index, count in equal.items()}
    for number, owner in enumerate(owners):
        own = known[owner].get("log_prob")
        if number in scores and isinstance(own, float):
            other_log_prob = -scores[number].mean_nll
            below.setdefault(owner, []).append(float(own > other_log_prob) + 0.5 * float(own == other_log_prob))
    return {index: {"preference": sum(each) / len(each)} for index, each in below.items()}


def related_rows(rows: Sequence[Example]) -> list[list[Example]]:
    """For each row those of other subjects that stand in the same relation."""
    by_relation: dict[str | None, list[Example]] = {}
    for row in rows:
        by_relation.setdefault(row.relation, []).append(row)
    return [
        [
            other
            for other in by_relation[row.relation]
            if other is not row and (row.subject is None or other.subject != row.subject)
        ]
        for row in rows
    ]
