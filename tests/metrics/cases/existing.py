"""Cases worked out by hand: likelihood, memorisation, membership, truth ratios, utility, BLEU, restoration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from soul_lightning.metrics import (
    Bleu,
    ExactMemorization,
    ExtractionStrength,
    ForgetQualityPValue,
    MembershipArea,
    ModelUtility,
    OptionProbability,
    Perplexity,
    PrivLeak,
    Probability,
    RestorationShare,
    SoulForgetQualityPValue,
    TruthRatio,
    area_under_curve,
    compare_restoration,
    corpus_bleu,
    exact_memorization,
    extraction_strength,
    forget_truth_ratio,
    option_probability,
    perplexity,
    privleak,
    prob_mean,
    sequence_probability,
    soul_forget_quality,
    utility_truth_ratio,
)
from soul_lightning.metrics.forget_quality import forget_quality
from soul_lightning.metrics.model_utility import model_utility
from soul_lightning.metrics.truth_ratio import truth_ratio
from soul_lightning.scoring.answers import AnswerRow
from tests.metrics.cases.case import Batch, Case, on

TWO, FOUR, EIGHT = (math.log(number) for number in (2, 4, 8))
"""NLLs of tokens with the probabilities 1/2, 1/4 and 1/8."""

LIKELIHOODS: tuple[Batch, ...] = (
    {"nlls": [TWO, 3 * EIGHT], "tokens": [1, 3]},
    {"nlls": [2 * FOUR], "tokens": [2]},
)
OPTIONS: tuple[Batch, ...] = (
    ([TWO], [1], [[FOUR, 2 * FOUR]], [[1, 2]]),
    ([FOUR, 3 * EIGHT], [1, 3], [[TWO], [EIGHT, FOUR, 4 * TWO]], [[1], [1, 1, 4]]),
)
HITS: tuple[Batch, ...] = (
    ([torch.tensor([True, False, True, True]), torch.tensor([True])],),
    ([torch.tensor([False, False])],),
)
ATTACK: tuple[Batch, ...] = (
    {"forget_scores": [0.1, 0.2]},
    {"forget_scores": [0.9], "holdout_scores": [0.5]},
    {"holdout_scores": [0.9]},
)
# R by the geometric mean: 0.2 / 0.5, 0.5 / 0.25 and 0.5 / 0.5; by the arithmetic one the first is 0.25 / 0.5
FALSE_ANSWERS: tuple[Batch, ...] = (
    {"paraphrased": [TWO, FOUR], "perturbed": [[math.log(10), math.log(2.5)], [TWO]]},
    {"paraphrased": [TWO], "perturbed": [[TWO, TWO, TWO]]},
)
UNLEARNED, RETAIN_ONLY = [0.1, 0.2, 0.3, 0.7], [0.4, 0.5, 0.6, 0.8, 0.9]
# the greatest distance is 3/4, and of the 126 ways to deal nine values into four and five, 18 are as far apart
AS_FAR_APART = 18 / 126
KEPT: tuple[Batch, ...] = (
    {"group": "retain", "probabilities": [0.25, 0.75], "rouge_recalls": [1.0, 0.5, 0.0], "truth_ratios": [0.5]},
    {"group": "real_authors", "probabilities": [0.25], "rouge_recalls": [1.0, 0.0]},
    {"group": "world_facts", "probabilities": [1.0], "rouge_recalls": [0.5], "truth_ratios": [0.25, 0.75, 0.5]},
    {"group": "real_authors", "probabilities": [0.25], "truth_ratios": [0.0, 1.5]},
)
# 1-grams to 4-grams: 4/5, 3/4, 2/3, 1/2 and 4/4, 3/3, 2/2, 1/1; nine tokens were said where ten are true
ANSWERS: tuple[Batch, ...] = (
    {"answers": ["lan mek nor pis rud"], "truths": ["lan mek nor pis sal"]},
    {"answers": ["lan mek nor pis"], "truths": ["lan mek nor pis rud"]},
)
# four people with two facts each, of which 7 were known, 1 was left and 5 came back
FACTS: tuple[Batch, ...] = (
    {
        "clean": [True, True, True, True],
        "corrupted": [True, False, False, False],
        "unlearned": [True, True, True, True],
        "entities": [31, 31, 4, 4],
    },
    {
        "clean": [True, True, True, False],
        "corrupted": [False, False, False, False],
        "unlearned": [True, False, False, False],
        "entities": [100, 100, 5, 5],
    },
)
LITTLE_LOST: tuple[Batch, ...] = (
    {"clean": [True, False], "corrupted": [False, True], "unlearned": [True, True], "entities": [1, 2]},
)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def utility_of(*groups: Batch) -> float:
    parts = []
    for group in groups:
        assert not isinstance(group, tuple)
        parts += [
            mean(group["probabilities"]),
            mean(group["rouge_recalls"]),
            utility_truth_ratio(group["truth_ratios"]),
        ]
    return model_utility(parts)


def restoration(entities: Sequence[int], **marks: Sequence[bool]) -> float:
    def row(model: str, fact: int) -> AnswerRow:
        true = marks[model][fact]
        return AnswerRow(model, "p", "corrupted", fact, str(entities[fact]), "", "?", "x", "y", true, False, "hash")

    comparison = compare_restoration(
        {model: [row(model, fact) for fact in range(len(entities))] for model in marks}, baseline=None
    )
    found = comparison.scores["unlearned"].restoration
    return found.value if found is not None else math.nan


def ratios(paraphrased: Any, perturbed: Any, aggregation: Any = "geometric") -> list[float]:
    return [float(ratio) for ratio in truth_ratio(paraphrased, perturbed, aggregation)]


CASES: dict[str, Case] = {
    "Probability": Case(Probability, LIKELIHOODS, (1 / 2 + 1 / 8 + 1 / 4) / 3, on(sequence_probability)),
    "Perplexity": Case(Perplexity, LIKELIHOODS, 2 ** ((1 + 3 * 3 + 2 * 2) / 6), on(perplexity)),
    "OptionProbability": Case(
        OptionProbability,
        OPTIONS,
        (1 / 2 + 1 / 3 + 1 / 8) / 3,
        on(lambda *columns: mean([option_probability(*row) for row in zip(*columns, strict=True)])),
    ),
    "ExactMemorization": Case(
        ExactMemorization, HITS, (3 / 4 + 1 + 0) / 3, on(lambda hits: mean([exact_memorization(row) for row in hits]))
    ),
    "ExtractionStrength": Case(
        ExtractionStrength, HITS, (1 / 2 + 1 + 0) / 3, on(lambda hits: mean([extraction_strength(row) for row in hits]))
    ),
    "MembershipArea": Case(MembershipArea, ATTACK, (2 + 2 + 1 / 2) / 6, on(area_under_curve)),
    "PrivLeak": Case(
        lambda: PrivLeak(0.6),
        ATTACK,
        100 * (0.25 - 0.4) / 0.4,
        on(lambda **scores: privleak(area_under_curve(**scores), 0.6)),
    ),
    "TruthRatio forget": Case(
        TruthRatio, FALSE_ANSWERS, (0.4 + 0.5 + 1) / 3, on(lambda **rows: forget_truth_ratio(ratios(**rows)))
    ),
    "TruthRatio utility": Case(
        lambda: TruthRatio("utility"),
        FALSE_ANSWERS,
        (0.6 + 0 + 0) / 3,
        on(lambda **rows: utility_truth_ratio(ratios(**rows))),
    ),
    "TruthRatio prob_mean": Case(
        lambda: TruthRatio("prob_mean"),
        FALSE_ANSWERS,
        (1 / 1.4 + 1 / 3 + 1 / 2) / 3,
        on(lambda **rows: prob_mean(ratios(**rows))),
    ),
    "TruthRatio arithmetic": Case(
        lambda: TruthRatio(aggregation="arithmetic"),
        FALSE_ANSWERS,
        (0.5 + 0.5 + 1) / 3,
        on(lambda **rows: forget_truth_ratio(ratios(**rows, aggregation="arithmetic"))),
    ),
    "ForgetQualityPValue": Case(
        lambda: ForgetQualityPValue(RETAIN_ONLY),
        ((UNLEARNED[:1],), (UNLEARNED[1:],)),
        AS_FAR_APART,
        on(lambda unlearned: forget_quality(unlearned, RETAIN_ONLY)),
    ),
    "SoulForgetQualityPValue": Case(
        SoulForgetQualityPValue,
        ({"forget": UNLEARNED, "retain": RETAIN_ONLY[:2]}, {"retain": RETAIN_ONLY[2:]}),
        AS_FAR_APART,
        on(soul_forget_quality),
    ),
    # seven parts of 1/2, one of 1/4, one of 1
    "ModelUtility": Case(ModelUtility, KEPT, 9 / (7 * 2 + 4 + 1), utility_of),
    "Bleu": Case(
        Bleu, ANSWERS, 100 * math.exp(1 - 10 / 9) * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** (1 / 4), on(corpus_bleu)
    ),
    "RestorationShare": Case(RestorationShare, FACTS, (5 - 1) / (7 - 1), on(restoration)),
    "RestorationShare undefined": Case(RestorationShare, LITTLE_LOST, math.nan, on(restoration)),
}
