"""Restoration: how much of what corruption took away does unlearning bring back, with a paired bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import entity_codes
from soul_lightning.metrics.restoration_draws import Answers, ModelScores, PairedDifference, RestorationDraws
from soul_lightning.scoring.answers import AnswerRow, check_same_questions


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
    tables = {role: Answers.of(rows, role) for role in ("corrupted", "control")}
    answers = tables["corrupted"]
    if answers is None:
        raise MisconfigurationError(
            f"the answers of {', '.join(map(repr, rows)) or 'no model'} hold no row of role 'corrupted', so there is "
            f"nothing to restore; answer a probe with that role"
        )
    draws = RestorationDraws(answers, tables["control"], clean, corrupted, n_resamples, confidence, seed)
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
        answers = Answers(
            keys=[(0, "", fact) for fact in range(facts)],
            true={model: self.rows(model) for model in ("clean", "corrupted", "unlearned")},
            false={},
            subjects=[],
            relations=[],
            entity=entity,
            n_entities=n_entities,
        )
        draws = RestorationDraws(answers, None, "clean", "corrupted", self.n_resamples, self.confidence, self.seed)
        share = draws.restoration("unlearned", np.ones(facts))
        return self._number(float(share[0]) if share is not None else float("nan"))
