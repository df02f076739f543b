"""Restoration: how much of what corruption took away does unlearning bring back, with a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array, Interval, entity_codes, entity_draws, percentile_interval
from soul_lightning.scoring.answers import AnswerRow, check_same_questions


@dataclass(frozen=True)
class ModelScores:
    """What one model's answers come to.

    Attributes:
        model: Its name.
        accuracy_corrupted: Share of true answers about the people whose facts were corrupted.
        false_share: Share of known false answers about them.
        accuracy_control: Share of true answers about people who were not; none without such questions.
        restoration: (acc − acc_corrupted) / (acc_clean − acc_corrupted) on the corrupted people; none where the
            comparison's `note` says why.
        restoration_known: The same on the facts that the clean model knew.
        per_relation: Restoration of each relation; none where the clean model is not above the corrupted one. Draws on
            which it is not are left out of the interval.
        per_entity: Restoration of each entity, all runs together.
    """

    model: str
    accuracy_corrupted: Interval
    false_share: Interval
    accuracy_control: Interval | None
    restoration: Interval | None
    restoration_known: Interval | None
    per_relation: Mapping[str, Interval | None] = field(default_factory=dict)
    per_entity: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class PairedDifference:
    """One model minus the baseline, on the same draws.

    Attributes:
        model: The model's name.
        false_share: Difference of the shares of false answers (below 0: fewer than the baseline).
        restoration: Difference of the restorations; none where there is no restoration.
        accuracy_control: Difference of the accuracies on control people; none without such questions.
    """

    model: str
    false_share: Interval
    restoration: Interval | None
    accuracy_control: Interval | None


@dataclass(frozen=True)
class RestorationComparison:
    """Several models on the same questions.

    Attributes:
        scores: By model, in the order they were given.
        differences: To the baseline, by model; empty without a baseline.
        baseline: Name of the baseline.
        facts: Questions about corrupted people, over all runs.
        entities: Corrupted people, over all runs: the unit of resampling.
        control_facts: Questions about control people.
        known_facts: Questions about corrupted people that the clean model answered truly.
        seeds: Runs that were pooled.
        clean: Name of the clean model, where there is one.
        corrupted: Name of the corrupted model, where there is one.
        confidence: Share of the draws inside each interval.
        note: Why there is no restoration, in one sentence; empty where there is.
    """

    scores: Mapping[str, ModelScores]
    differences: Mapping[str, PairedDifference]
    baseline: str | None
    facts: int
    entities: int
    control_facts: int
    known_facts: int
    seeds: int
    clean: str | None = None
    corrupted: str | None = None
    confidence: float = 0.95
    note: str = ""


def compare_restoration(
    rows: Mapping[str, Sequence[AnswerRow]],
    *,
    clean: str | None = "clean",
    corrupted: str | None = "corrupted",
    baseline: str | None = "retain-only",
    n_resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RestorationComparison:
    """Compare models on the same questions.

    Entities are resampled, not facts: the facts of one entity are learnt and lost together, so that intervals over
    facts would be too narrow. Every model is measured on the same draws. Draws on which the clean model is not above
    the corrupted one have no restoration and are left out of its interval.

    Args:
        rows: Each model's answers. Rows of role `corrupted` and `control` count, others are left aside. To pool runs,
            set `AnswerRow.seed` apart for each; (seed, subject) is then the entity.
        clean: Name of the model before corruption; without it there is no restoration.
        corrupted: Name of the corrupted model, before unlearning.
        baseline: Name of the model that the others are compared with in pairs; without it there are no differences.
        n_resamples: Bootstrap draws.
        confidence: Share of the draws inside an interval.
        seed: Seed of the draws.

    Raises:
        MisconfigurationError: The models answered different questions, or none about corrupted people.
    """
    check_same_questions(rows)
    tables = {role: _Answers.of(rows, role) for role in ("corrupted", "control")}
    answers = tables["corrupted"]
    if answers is None:
        raise MisconfigurationError(
            f"the answers of {', '.join(map(repr, rows)) or 'no model'} hold no row of role 'corrupted', so there is "
            f"nothing to restore; answer a probe with that role"
        )
    draws = _Draws(answers, tables["control"], clean, corrupted, n_resamples, confidence, seed)
    named = baseline if baseline in rows else None
    return RestorationComparison(
        scores={model: draws.scores(model) for model in rows},
        differences={model: draws.difference(model, named) for model in rows if model != named} if named else {},
        baseline=named,
        facts=len(answers.keys),
        entities=answers.n_entities,
        control_facts=len(tables["control"].keys) if tables["control"] else 0,
        known_facts=int(draws.known.sum()),
        seeds=len({key[0] for key in answers.keys}),
        clean=draws.clean,
        corrupted=draws.corrupted,
        confidence=confidence,
        note=draws.note,
    )


class RestorationShare(RowMetric):
    """(acc − acc_corrupted) / (acc_clean − acc_corrupted) over all facts of all processes, as `compare_restoration`.

    Args:
        n_resamples: Bootstrap draws of entities.
        confidence: Share of the draws inside the interval of acc_clean − acc_corrupted.
        seed: Seed of the draws.
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = RestorationShare()
        >>> metric.update(clean=[1, 1, 1, 1], corrupted=[0, 0, 0, 0], unlearned=[1, 0, 1, 1], entities=[7, 7, 8, 8])
        >>> metric.compute().item()
        0.75
    """

    def __init__(self, n_resamples: int = 2000, confidence: float = 0.95, seed: int = 0, **settings: Any) -> None:
        super().__init__("clean", "corrupted", "unlearned", "entities", **settings)
        self.n_resamples = n_resamples
        self.confidence = confidence
        self.seed = seed

    def update(
        self,
        clean: Sequence[bool] | Tensor,
        corrupted: Sequence[bool] | Tensor,
        unlearned: Sequence[bool] | Tensor,
        entities: Sequence[int] | Tensor,
    ) -> None:
        """Add facts about the people whose facts were corrupted.

        Args:
            clean: [facts] whether the model before corruption answered truly.
            corrupted: [facts] the same of the model before unlearning.
            unlearned: [facts] the same of the model after it.
            entities: [facts] a number for whom each fact is about, the same on every process.

        Raises:
            MisconfigurationError: The lengths differ.
        """
        self.append(clean=clean, corrupted=corrupted, unlearned=unlearned, entities=entities)

    def compute(self) -> Tensor:
        """[] float64: 0 nothing came back, 1 all of it; not a number where too little was lost to say.

        Raises:
            MisconfigurationError: There is no fact, no draw is asked for, or `confidence` is not between 0 and 1.
        """
        facts = len(self.rows("entities"))
        if not facts:
            raise MisconfigurationError("RestorationShare has no facts; give update at least one before compute")
        numbers = [int(entity) for entity in self.rows("entities")]
        entity, n_entities = entity_codes(numbers)
        answers = _Answers(
            keys=[(0, "", fact) for fact in range(facts)],
            true={model: self.rows(model) for model in ("clean", "corrupted", "unlearned")},
            false={},
            subjects=[],
            relations=[],
            entity=entity,
            n_entities=n_entities,
        )
        draws = _Draws(answers, None, "clean", "corrupted", self.n_resamples, self.confidence, self.seed)
        share = draws.restoration("unlearned", np.ones(facts))
        return self._number(float(share[0]) if share is not None else float("nan"))


@dataclass(frozen=True)
class _Answers:
    """The answers of every model to the questions of one role, in one order."""

    keys: list[tuple[int, str, int]]
    true: Mapping[str, Array]
    false: Mapping[str, Array]
    subjects: list[str]
    relations: list[str]
    entity: np.ndarray[tuple[int], np.dtype[np.int64]]
    n_entities: int

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[AnswerRow]], role: str) -> _Answers | None:
        ordered = {
            model: sorted((row for row in own if row.role == role), key=lambda row: row.key)
            for model, own in rows.items()
        }
        first = next(iter(ordered.values()), [])
        if not first:
            return None
        # A row that names no subject stands for itself.
        subjects = [row.subject or f"{row.probe} {row.index}" for row in first]
        entity, n_entities = entity_codes([(row.seed, name) for row, name in zip(first, subjects, strict=True)])
        return cls(
            keys=[row.key for row in first],
            true={model: np.array([row.true for row in own], dtype=np.float64) for model, own in ordered.items()},
            false={model: np.array([row.false for row in own], dtype=np.float64) for model, own in ordered.items()},
            subjects=subjects,
            relations=[row.relation for row in first],
            entity=entity,
            n_entities=n_entities,
        )

    def per_entity(self, values: Array) -> Array:
        """[entities] sums of [facts] values."""
        sums = np.bincount(self.entity, weights=values, minlength=self.n_entities)
        return sums.astype(np.float64)


class _Draws:
    """The numbers of every model on the rows as they are (first) and on every draw (the rest)."""

    def __init__(
        self,
        answers: _Answers,
        control: _Answers | None,
        clean: str | None,
        corrupted: str | None,
        n_resamples: int,
        confidence: float,
        seed: int,
    ) -> None:
        self.answers = answers
        self.control = control
        self.confidence = confidence
        self.clean = clean if clean in answers.true else None
        self.corrupted = corrupted if corrupted in answers.true else None
        self.known = answers.true[self.clean] if self.clean else np.zeros(len(answers.keys))
        self._weights = _as_given_and(entity_draws(answers.n_entities, n_resamples, seed))
        self._control_weights = (
            _as_given_and(entity_draws(control.n_entities, n_resamples, seed + 1)) if control else np.empty((0, 0))
        )
        self.note = self._why_none(np.ones(len(answers.keys)))

    def accuracy(self, model: str, among: Array | None = None) -> Array:
        """[1 + resamples] share of true answers, of all facts or of those `among` which is 1."""
        return self._share(self.answers, self._weights, self.answers.true[model], among)

    def _share(self, answers: _Answers, weights: Array, values: Array, among: Array | None = None) -> Array:
        among = np.ones(len(values)) if among is None else among
        with np.errstate(invalid="ignore"):  # a draw may hold none of the facts: NaN, left out of the interval
            return np.asarray((weights @ answers.per_entity(values * among)) / (weights @ answers.per_entity(among)))

    def _interval(self, values: Array) -> Interval:
        return percentile_interval(values[0], values[1:], self.confidence)

    def _gap(self, among: Array) -> Array:
        assert self.clean is not None and self.corrupted is not None
        gap = self.accuracy(self.clean, among) - self.accuracy(self.corrupted, among)
        return np.where(gap > 0, gap, np.nan)

    def _why_none(self, among: Array) -> str:
        if self.clean is None:
            return "There is no restoration, because no clean model was given to say what could come back."
        if self.corrupted is None:
            return "There is no restoration, because no corrupted model was given to say what was lost."
        lost = self.accuracy(self.clean, among) - self.accuracy(self.corrupted, among)
        gap = self._interval(lost)
        if gap.low > 0:
            return ""
        return (
            f"There is no restoration, because the clean model's accuracy minus the corrupted one's is {gap}, "
            f"which is not surely above 0."
        )

    def restoration(self, model: str, among: Array) -> Array | None:
        """[1 + resamples] restoration, or none where too little was lost to say."""
        if self._why_none(among):
            return None
        assert self.corrupted is not None
        return np.asarray((self.accuracy(model, among) - self.accuracy(self.corrupted, among)) / self._gap(among))

    def _optional(self, values: Array | None) -> Interval | None:
        return self._interval(values) if values is not None else None

    def _control_accuracy(self, model: str) -> Array | None:
        if self.control is None:
            return None
        return self._share(self.control, self._control_weights, self.control.true[model])

    def _false_share(self, model: str) -> Array:
        return self._share(self.answers, self._weights, self.answers.false[model])

    def scores(self, model: str) -> ModelScores:
        """Everything about one model."""
        everything = np.ones(len(self.answers.keys))
        return ModelScores(
            model=model,
            accuracy_corrupted=self._interval(self.accuracy(model)),
            false_share=self._interval(self._false_share(model)),
            accuracy_control=self._optional(self._control_accuracy(model)),
            restoration=self._optional(self.restoration(model, everything)),
            restoration_known=self._optional(self.restoration(model, self.known)) if self.known.any() else None,
            per_relation=self._by_relation(model),
            per_entity=self._by_entity(model),
        )

    def _by_relation(self, model: str) -> dict[str, Interval | None]:
        if self.clean is None or self.corrupted is None:
            return {}
        names = np.array(self.answers.relations)
        result: dict[str, Interval | None] = {}
        for name in sorted(set(self.answers.relations)):
            among = (names == name).astype(np.float64)
            gained = self.accuracy(model, among) - self.accuracy(self.corrupted, among)
            restored = gained / self._gap(among)
            result[name] = self._interval(restored) if np.isfinite(restored[0]) else None
        return result

    def _by_entity(self, model: str) -> dict[str, float | None]:
        if self.clean is None or self.corrupted is None:
            return {}
        names = np.array(self.answers.subjects)
        result: dict[str, float | None] = {}
        for name in sorted(set(self.answers.subjects)):
            clean, corrupted, own = (
                float(self.answers.true[each][names == name].mean()) for each in (self.clean, self.corrupted, model)
            )
            result[name] = (own - corrupted) / (clean - corrupted) if clean > corrupted else None
        return result

    def difference(self, model: str, baseline: str) -> PairedDifference:
        """One model minus another on the same draws."""
        everything = np.ones(len(self.answers.keys))

        def minus(number: Callable[[str], Array | None]) -> Interval | None:
            own, other = number(model), number(baseline)
            return self._interval(own - other) if own is not None and other is not None else None

        return PairedDifference(
            model=model,
            false_share=self._interval(self._false_share(model) - self._false_share(baseline)),
            restoration=minus(lambda name: self.restoration(name, everything)),
            accuracy_control=minus(self._control_accuracy),
        )


def _as_given_and(draws: Array) -> Array:
    """The rows as they are (every entity once) before the draws."""
    return np.concatenate([np.ones((1, draws.shape[1])), draws])
