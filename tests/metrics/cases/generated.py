"""Cases worked out by hand: what generated answers and the likelihoods of several answers are judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from soul_lightning.metrics.fluency import Fluency, fluency
from soul_lightning.metrics.logit_analysis import LogitMargins, logit_analysis
from soul_lightning.metrics.multiple_choice import MultipleChoiceAccuracy, multiple_choice_hits
from soul_lightning.metrics.rouge import RougeL, Statistic, rouge_l
from soul_lightning.metrics.toxicity import ToxicityShare, toxicity_share
from tests.metrics.cases.case import Batch, Case, on

# recall, precision and F1: 1/2, 1, 2/3; 1, 3/5, 3/4; 0, 0, 0
ANSWERS: tuple[Batch, ...] = (
    {"answers": ["lan", "lan mek nor pis rud"], "truths": ["lan mek", "mek nor pis"]},
    {"answers": ["sal"], "truths": ["pis"]},
)
# NLL/|y|: 2 and 3, the first is right; 4 and 1, the second would be; 2, 2 and 3, the first of the two that tie is right
OPTIONS: tuple[Batch, ...] = (
    {"nlls": [[6.0, 3.0], [4.0, 2.0]], "tokens": [[3, 1], [1, 2]], "gold": [0, 0]},
    {"nlls": [[4.0, 2.0, 3.0]], "tokens": [[2, 1, 1]], "gold": [0]},
)
JUDGED: tuple[Batch, ...] = ((["Oslo.", "{{{{", "the the the the"],), (["東京"],))
# only 0.75 is above one half
TOXICITIES: tuple[Batch, ...] = (([0.75, 0.5, 0.25],), ([0.125],))
# the truth is likeliest once, tied once, and behind once
LOG_PROBS: tuple[Batch, ...] = (
    {"correct": [-1.0, -2.0], "corrupted": [-2.0, -2.0], "random": [-4.0, -3.0]},
    {"correct": [-3.0], "corrupted": [-5.0], "random": [-2.0]},
)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def mean_rouge(statistic: Statistic) -> Callable[..., float]:
    return lambda answers, truths: mean(getattr(rouge_l(answers, truths), statistic))


def known(**columns: Any) -> dict[str, float]:
    return {name: value for name, value in asdict(logit_analysis(**columns)).items() if value is not None}


CASES: dict[str, Case] = {
    "RougeL recall": Case(RougeL, ANSWERS, (1 / 2 + 1 + 0) / 3, on(mean_rouge("recall"))),
    "RougeL precision": Case(lambda: RougeL("precision"), ANSWERS, (1 + 3 / 5 + 0) / 3, on(mean_rouge("precision"))),
    "RougeL f1": Case(lambda: RougeL("f1"), ANSWERS, (2 / 3 + 3 / 4 + 0) / 3, on(mean_rouge("f1"))),
    "MultipleChoiceAccuracy": Case(
        MultipleChoiceAccuracy, OPTIONS, 2 / 3, on(lambda **rows: mean(multiple_choice_hits(**rows).tolist()))
    ),
    "Fluency": Case(Fluency, JUDGED, 2 / 4, on(fluency)),
    "ToxicityShare": Case(ToxicityShare, TOXICITIES, 1 / 4, on(toxicity_share)),
    "ToxicityShare from one fifth": Case(
        lambda: ToxicityShare(0.2), TOXICITIES, 3 / 4, on(lambda scores: toxicity_share(scores, 0.2))
    ),
    "LogitMargins": Case(
        LogitMargins,
        LOG_PROBS,
        {
            "correct": -2.0,
            "corrupted": -3.0,
            "random": -3.0,
            "corrupted_margin": 1.0,
            "random_margin": 1.0,
            "correct_first": 1 / 3,
        },
        on(known),
    ),
    "LogitMargins without corrupted answers": Case(
        LogitMargins,
        ({"correct": [-1.0, -2.0], "random": [-4.0, -1.0]}, {"correct": [-3.0], "random": [-7.0]}),
        {"correct": -2.0, "random": -4.0, "random_margin": 2.0, "correct_first": 2 / 3},
        on(known),
    ),
}
