"""The numbers of a restoration comparison on every bootstrap draw of entities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from soul_lightning.metrics.bootstrap import Array, Interval, entity_codes, entity_draws, percentile_interval
from soul_lightning.scoring.answers import AnswerRow


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
class Answers:
    """The answers of every model to the questions of one role, in one order."""

    keys: list[tuple[int, str, int]]
    true: Mapping[str, Array]
    false: Mapping[str, Array]
    subjects: list[str]
    relations: list[str]
    entity: np.ndarray[tuple[int], np.dtype[np.int64]]
    n_entities: int

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[AnswerRow]], role: str) -> Answers | None:
        """The rows of one role; none where there is none."""
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


class RestorationDraws:
    """The numbers of every model on the rows as they are (first) and on every draw (the rest)."""

    def __init__(
        self,
        answers: Answers,
        control: Answers | None,
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
        self.note = self._why_none(None)

    def accuracy(self, model: str, among: Array | None = None) -> Array:
        """[1 + resamples] share of true answers, of all facts or of those `among` which is 1."""
        return self._share(self.answers, self._weights, self.answers.true[model], among)

    def _share(self, answers: Answers, weights: Array, values: Array, among: Array | None = None) -> Array:
        among = np.ones(len(values)) if among is None else among
        with np.errstate(invalid="ignore"):  # a draw may hold none of the facts: NaN, left out of the interval
            return np.asarray((weights @ answers.per_entity(values * among)) / (weights @ answers.per_entity(among)))

    def interval(self, values: Array) -> Interval:
        """The first of the values with the percentiles of the others."""
        return percentile_interval(values[0], values[1:], self.confidence)

    def _gap(self, among: Array | None) -> Array:
        assert self.clean is not None and self.corrupted is not None
        gap = self.accuracy(self.clean, among) - self.accuracy(self.corrupted, among)
        return np.where(gap > 0, gap, np.nan)

    def _why_none(self, among: Array | None) -> str:
        if self.clean is None:
            return "There is no restoration, because no clean model was given to say what could come back."
        if self.corrupted is None:
            return "There is no restoration, because no corrupted model was given to say what was lost."
        lost = self.accuracy(self.clean, among) - self.accuracy(self.corrupted, among)
        gap = self.interval(lost)
        if gap.low > 0:
            return ""
        return (
            f"There is no restoration, because the clean model's accuracy minus the corrupted one's is {gap}, "
            f"which is not surely above 0."
        )

    def restoration(self, model: str, among: Array | None = None) -> Array | None:
        """[1 + resamples] restoration on those `among` which is 1, all by default; none where too little was lost."""
        if self._why_none(among):
            return None
        assert self.corrupted is not None
        return np.asarray((self.accuracy(model, among) - self.accuracy(self.corrupted, among)) / self._gap(among))

    def _optional(self, values: Array | None) -> Interval | None:
        return self.interval(values) if values is not None else None

    def control_accuracy(self, model: str) -> Array | None:
        """[1 + resamples] share of true answers about control people; none without such questions."""
        if self.control is None:
            return None
        return self._share(self.control, self._control_weights, self.control.true[model])

    def false_share(self, model: str) -> Array:
        """[1 + resamples] share of false answers about the corrupted people."""
        return self._share(self.answers, self._weights, self.answers.false[model])

    def scores(self, model: str) -> ModelScores:
        """Everything about one model."""
        return ModelScores(
            model=model,
            accuracy_corrupted=self.interval(self.accuracy(model)),
            false_share=self.interval(self.false_share(model)),
            accuracy_control=self._optional(self.control_accuracy(model)),
            restoration=self._optional(self.restoration(model)),
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
            result[name] = self.interval(restored) if np.isfinite(restored[0]) else None
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

        def minus(number: Callable[[str], Array | None]) -> Interval | None:
            own, other = number(model), number(baseline)
            return self.interval(own - other) if own is not None and other is not None else None

        return PairedDifference(
            model=model,
            false_share=self.interval(self.false_share(model) - self.false_share(baseline)),
            restoration=minus(self.restoration),
            accuracy_control=minus(self.control_accuracy),
        )


def _as_given_and(draws: Array) -> Array:
    """The rows as they are (every entity once) before the draws."""
    return np.concatenate([np.ones((1, draws.shape[1])), draws])
