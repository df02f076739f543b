"""Cases worked out by hand: attacks that call rows members."""

from __future__ import annotations

from dataclasses import asdict

from soul_lightning.metrics.attacks import (
    CorrectnessAttack,
    TruePositiveRate,
    correctness_attack,
    true_positive_rate,
)
from tests.metrics.cases.case import Batch, Case, on

# half of four holdout rows may be wrong, so that rows below the third lowest, 3, are found: 1, 2 and 2.5 of five
SCORES: tuple[Batch, ...] = (
    {"forget_scores": [1.0, 3.0], "holdout_scores": [3.0]},
    {"forget_scores": [2.0], "holdout_scores": [5.0, 0.5]},
    {"forget_scores": [2.5, 9.0], "holdout_scores": [1.5]},
)
# one forget row of four lies where the holdout does; three rows of either other set are learned from
SHADOWS: tuple[Batch, ...] = (
    {"forget_scores": [0.875, 0.125], "retain_scores": [0.75, 0.875]},
    {"forget_scores": [1.0], "retain_scores": [1.0], "holdout_scores": [0.0, 0.125, 0.1875]},
    {"forget_scores": [0.75], "holdout_scores": [0.0625]},
)

CASES: dict[str, Case] = {
    "TruePositiveRate": Case(
        lambda: TruePositiveRate(0.5),
        SCORES,
        3 / 5,
        on(lambda **sets: true_positive_rate(**sets, false_positive_rate=0.5)),
    ),
    # one of a hundred may be wrong, and of four none: nothing is below 0.5
    "TruePositiveRate at one percent": Case(TruePositiveRate, SCORES, 0.0, on(true_positive_rate)),
    "CorrectnessAttack": Case(
        CorrectnessAttack,
        SHADOWS,
        {"forget_as_holdout": 1 / 4, "shadow_accuracy": 1.0},
        on(lambda **sets: asdict(correctness_attack(**sets))),
    ),
}
