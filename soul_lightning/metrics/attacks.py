"""Attacks that call each row a member or not, where `membership` asks for the order of scores only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.base import RowMetric
from soul_lightning.metrics.bootstrap import Array

Scores = Sequence[float] | Array

PENALTY = 3.0
"""C of the support vector machine in the code of SOUL."""


def true_positive_rate(forget_scores: Scores, holdout_scores: Scores, false_positive_rate: float = 0.01) -> float:
    """The share of forget rows that an attacker finds who may be wrong on 1 % of the holdout (Carlini et al. 2022).

    A row is called a member where its score is below a threshold t. With k the greatest number of holdout rows that the
    rate allows, t is the (k + 1)-th lowest holdout score: the greatest t with at most k holdout rows below it. A row
    that ties with t is no member, so that the rate is never exceeded and chance breaks no tie. With fewer than
    1 / `false_positive_rate` holdout rows k is 0: the attacker may be wrong on none.

    Args:
        forget_scores: [forget rows] a loss-like score, low for members.
        holdout_scores: [holdout rows] the same for rows that the model never saw.
        false_positive_rate: Greatest share of holdout rows that are called members, from 0 to 1.

    Returns:
        Between 0 and 1; `false_positive_rate` or less where forget cannot be told from holdout.

    Raises:
        MisconfigurationError: A set is empty, a score is not a number, or the rate is not between 0 and 1.

    Example:
        >>> true_positive_rate([0.1, 0.2, 0.9, 0.9], [0.3, 0.9, 1.1, 1.2]), true_positive_rate([0.3], [0.3, 0.9], 0.5)
        (0.5, 1.0)
    """
    _check_rate(false_positive_rate)
    forget, holdout = _checked(forget_scores, "forget"), _checked(holdout_scores, "holdout")
    # 0.29 of 100 rows is 28.999… in floating point, and 29 of 100 is 0.29.
    allowed = max(k for k in _around(false_positive_rate * len(holdout)) if k / len(holdout) <= false_positive_rate)
    if allowed >= len(holdout):
        return 1.0
    return float((forget < np.sort(holdout)[allowed]).mean())


@dataclass(frozen=True, slots=True)
class CorrectnessAttackResult:
    """What the attack found.

    Attributes:
        forget_as_holdout: Share of the forget rows that it takes for holdout: 0 all are still remembered, 1 none is.
        shadow_accuracy: Share of the rows it learned from that it gets right. Near 0.5 it cannot tell retain rows from
            holdout rows, and says nothing about the forget rows either.
    """

    forget_as_holdout: float
    shadow_accuracy: float


def correctness_attack(
    forget_scores: Scores,
    retain_scores: Scores,
    holdout_scores: Scores,
    *,
    standardize: bool = True,
    seed: int = 0,
) -> CorrectnessAttackResult:
    """The SVC attack of SOUL's code (Jia et al. 2024): learn on retain and holdout who is a member, then judge forget.

    A support vector machine (rbf kernel, γ = 1, C = 3) learns from one number a row to tell retain rows, which are
    members, from holdout rows, and is then shown the forget rows. The number may be any that differs between
    members and others, in either direction: the share of tokens that the model gets right (`exact_memorization`, which
    gave the attack its name), the probability, or a score of `membership_scores` and `attack_scores`, which is what
    SOUL's code gives it.

    It departs from that code twice. Of the larger of the two sets as many rows as the other has are drawn by `seed`
    (the code takes the first holdout rows and never cuts the retain rows: the larger set would be the safer guess). And
    the numbers are standardised by those rows, since with γ = 1 their unit would decide how fine a boundary can be: far
    below 1, as loss / zlib bytes is, it is one threshold. `standardize=False` leaves them as they are.

    Args:
        forget_scores: [forget rows] one number a row.
        retain_scores: [retain rows] the same for rows that the model was trained on and keeps.
        holdout_scores: [holdout rows] the same for rows that it never saw.
        standardize: Subtract the mean and divide by the standard deviation of the rows that are learned from.
        seed: Seed of the draw of rows; the order of the rows changes nothing.

    Raises:
        MisconfigurationError: A set is empty, or a number is not finite.

    Example:
        >>> correctness_attack(forget_scores=[0.1, 0.9], retain_scores=[0.8, 0.9, 1.0], holdout_scores=[0.0, 0.1, 0.2])
        CorrectnessAttackResult(forget_as_holdout=0.5, shadow_accuracy=1.0)
    """
    # Half a second, for a callback that may never ask for it.
    from sklearn.svm import SVC

    given = {"forget": forget_scores, "retain": retain_scores, "holdout": holdout_scores}
    forget, retain, holdout = (_checked(scores, name, finite=True) for name, scores in given.items())
    rng = np.random.default_rng(seed)
    size = min(len(retain), len(holdout))
    # Sorted, or who is drawn would depend on which process has which row.
    shadow = np.concatenate([rng.choice(np.sort(each), size, replace=False) for each in (retain, holdout)])
    members = np.repeat([True, False], size)
    if standardize:
        center, scale = shadow.mean(), shadow.std() or 1.0
        shadow, forget = (shadow - center) / scale, (forget - center) / scale
    machine = SVC(C=PENALTY, kernel="rbf", gamma="auto", random_state=seed).fit(shadow[:, None], members)
    return CorrectnessAttackResult(
        forget_as_holdout=1 - float(machine.predict(forget[:, None]).mean()),
        shadow_accuracy=float(machine.score(shadow[:, None], members)),
    )


class TruePositiveRate(RowMetric):
    """`true_positive_rate` of all rows of all processes.

    Args:
        false_positive_rate: Greatest share of holdout rows that are called members, from 0 to 1.
        settings: Of `torchmetrics.Metric`.

    Raises:
        MisconfigurationError: The rate is not between 0 and 1.

    Example:
        >>> metric = TruePositiveRate()
        >>> metric.update(forget_scores=[0.1, 0.2], holdout_scores=[0.3])
        >>> metric.update(forget_scores=[0.9, 0.9], holdout_scores=[0.9])
        >>> metric.compute().item()
        0.5
    """

    def __init__(self, false_positive_rate: float = 0.01, **settings: Any) -> None:
        super().__init__("forget", "holdout", **settings)
        _check_rate(false_positive_rate)
        self.false_positive_rate = false_positive_rate

    def update(self, forget_scores: Scores | Tensor = (), holdout_scores: Scores | Tensor = ()) -> None:
        """Add rows of either set, or of both.

        Args:
            forget_scores: [forget rows] a loss-like score, low for members.
            holdout_scores: [holdout rows] the same for rows that the model never saw. The numbers may differ.
        """
        self.append(forget=forget_scores)
        self.append(holdout=holdout_scores)

    def compute(self) -> Tensor:
        """[] float64, between 0 and 1.

        Raises:
            MisconfigurationError: A set is empty, or a score is not a number.
        """
        return self._number(true_positive_rate(self.rows("forget"), self.rows("holdout"), self.false_positive_rate))


class CorrectnessAttack(RowMetric):
    """`correctness_attack` on all rows of all processes.

    Args:
        standardize: Standardise the numbers by the rows that are learned from.
        seed: Seed of the draw of rows.
        settings: Of `torchmetrics.Metric`.

    Example:
        >>> metric = CorrectnessAttack()
        >>> metric.update(forget_scores=[0.1, 0.9], retain_scores=[0.8, 0.9, 1.0])
        >>> metric.update(holdout_scores=[0.0, 0.1, 0.2])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'forget_as_holdout': 0.5, 'shadow_accuracy': 1.0}
    """

    def __init__(self, standardize: bool = True, seed: int = 0, **settings: Any) -> None:
        super().__init__("forget", "retain", "holdout", **settings)
        self.standardize = standardize
        self.seed = seed

    def update(
        self,
        forget_scores: Scores | Tensor = (),
        retain_scores: Scores | Tensor = (),
        holdout_scores: Scores | Tensor = (),
    ) -> None:
        """Add rows of any of the sets; their numbers may differ.

        Args:
            forget_scores: [forget rows] one number a row.
            retain_scores: [retain rows] the same for rows that the model was trained on and keeps.
            holdout_scores: [holdout rows] the same for rows that it never saw.
        """
        self.append(forget=forget_scores)
        self.append(retain=retain_scores)
        self.append(holdout=holdout_scores)

    def compute(self) -> dict[str, Tensor]:
        """The fields of `CorrectnessAttackResult`, [] float64 each.

        Raises:
            MisconfigurationError: A set is empty, or a number is not finite.
        """
        sets = (self.rows(name) for name in self.columns)
        result = correctness_attack(*sets, standardize=self.standardize, seed=self.seed)
        return {name: self._number(value) for name, value in asdict(result).items()}


def _around(number: float) -> range:
    return range(max(0, math.floor(number) - 1), math.floor(number) + 2)


def _check_rate(false_positive_rate: float) -> None:
    if not 0 <= false_positive_rate <= 1:
        raise MisconfigurationError(
            f"false_positive_rate must lie between 0 and 1, got {false_positive_rate}; 0.01 is the usual rate"
        )


def _checked(scores: Scores, name: str, finite: bool = False) -> Array:
    values = np.asarray(scores, dtype=np.float64)
    unusable = int((~np.isfinite(values)).sum() if finite else np.isnan(values).sum())
    if not len(values) or unusable:
        what = f"has {unusable} of {len(values)} scores that are no {'finite ' * finite}numbers" if unusable else ""
        raise MisconfigurationError(
            f"the {name} set of the membership attack {what or 'is empty'}; give it rows that the model can score"
        )
    return values
