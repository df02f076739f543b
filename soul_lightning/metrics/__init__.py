"""Metrics, each as a function of all rows and as a torchmetrics class that gathers them over batches and processes.

The functions `fluency`, `forget_quality`, `logit_analysis`, `model_utility`, `token_statistics` and `truth_ratio` have
the names of the modules they stand in, and are imported from there.
"""

from typing import TYPE_CHECKING

from soul_lightning.lazy import attach

if TYPE_CHECKING:
    from soul_lightning.metrics.attack_scores import loss_score, lowercase_score, reference_score, zlib_score
    from soul_lightning.metrics.attacks import (
        CorrectnessAttack,
        CorrectnessAttackResult,
        TruePositiveRate,
        correctness_attack,
        true_positive_rate,
    )
    from soul_lightning.metrics.base import RowMetric
    from soul_lightning.metrics.bleu import Bleu, corpus_bleu, restoration_bleu
    from soul_lightning.metrics.bootstrap import Interval
    from soul_lightning.metrics.fluency import Fluency, degeneracy, is_degenerate
    from soul_lightning.metrics.forget_quality import (
        ForgetQualityPValue,
        SoulForgetQualityPValue,
        soul_forget_quality,
    )
    from soul_lightning.metrics.judge import Judge, Verdict
    from soul_lightning.metrics.likelihood import (
        OptionProbability,
        Perplexity,
        Probability,
        option_probability,
        perplexity,
        sequence_probability,
    )
    from soul_lightning.metrics.logit_analysis import LogitAnalysisSummary, LogitMargins
    from soul_lightning.metrics.membership import (
        MembershipArea,
        PrivLeak,
        area_under_curve,
        area_under_curve_interval,
        privleak,
    )
    from soul_lightning.metrics.membership_scores import min_k, min_k_plus_plus
    from soul_lightning.metrics.memorization import (
        ExactMemorization,
        ExtractionStrength,
        exact_memorization,
        extraction_strength,
    )
    from soul_lightning.metrics.model_utility import ModelUtility
    from soul_lightning.metrics.multiple_choice import MultipleChoiceAccuracy, multiple_choice_hits
    from soul_lightning.metrics.restoration import RestorationComparison, RestorationShare, compare_restoration
    from soul_lightning.metrics.rouge import RougeL, RougeScores, rouge_l
    from soul_lightning.metrics.token_statistics import TokenStatistics
    from soul_lightning.metrics.toxicity import ToxicityShare, mean_toxicity, toxicity_share
    from soul_lightning.metrics.truth_ratio import TruthRatio, forget_truth_ratio, prob_mean, utility_truth_ratio

__all__ = [
    "Bleu",
    "CorrectnessAttack",
    "CorrectnessAttackResult",
    "ExactMemorization",
    "ExtractionStrength",
    "Fluency",
    "ForgetQualityPValue",
    "Interval",
    "Judge",
    "LogitAnalysisSummary",
    "LogitMargins",
    "MembershipArea",
    "ModelUtility",
    "MultipleChoiceAccuracy",
    "OptionProbability",
    "Perplexity",
    "PrivLeak",
    "Probability",
    "RestorationComparison",
    "RestorationShare",
    "RougeL",
    "RougeScores",
    "RowMetric",
    "SoulForgetQualityPValue",
    "TokenStatistics",
    "ToxicityShare",
    "TruePositiveRate",
    "TruthRatio",
    "Verdict",
    "area_under_curve",
    "area_under_curve_interval",
    "compare_restoration",
    "corpus_bleu",
    "correctness_attack",
    "degeneracy",
    "exact_memorization",
    "extraction_strength",
    "forget_truth_ratio",
    "is_degenerate",
    "loss_score",
    "lowercase_score",
    "mean_toxicity",
    "min_k",
    "min_k_plus_plus",
    "multiple_choice_hits",
    "option_probability",
    "perplexity",
    "privleak",
    "prob_mean",
    "reference_score",
    "restoration_bleu",
    "rouge_l",
    "sequence_probability",
    "soul_forget_quality",
    "toxicity_share",
    "true_positive_rate",
    "utility_truth_ratio",
    "zlib_score",
]
__getattr__ = attach(
    __name__,
    {
        "soul_lightning.metrics.attack_scores": ["loss_score", "lowercase_score", "reference_score", "zlib_score"],
        "soul_lightning.metrics.attacks": [
            "CorrectnessAttack",
            "CorrectnessAttackResult",
            "TruePositiveRate",
            "correctness_attack",
            "true_positive_rate",
        ],
        "soul_lightning.metrics.base": ["RowMetric"],
        "soul_lightning.metrics.bleu": ["Bleu", "corpus_bleu", "restoration_bleu"],
        "soul_lightning.metrics.bootstrap": ["Interval"],
        "soul_lightning.metrics.fluency": ["Fluency", "degeneracy", "is_degenerate"],
        "soul_lightning.metrics.forget_quality": [
            "ForgetQualityPValue",
            "SoulForgetQualityPValue",
            "soul_forget_quality",
        ],
        "soul_lightning.metrics.judge": ["Judge", "Verdict"],
        "soul_lightning.metrics.likelihood": [
            "OptionProbability",
            "Perplexity",
            "Probability",
            "option_probability",
            "perplexity",
            "sequence_probability",
        ],
        "soul_lightning.metrics.logit_analysis": ["LogitAnalysisSummary", "LogitMargins"],
        "soul_lightning.metrics.membership": [
            "MembershipArea",
            "PrivLeak",
            "area_under_curve",
            "area_under_curve_interval",
            "privleak",
        ],
        "soul_lightning.metrics.membership_scores": ["min_k", "min_k_plus_plus"],
        "soul_lightning.metrics.memorization": [
            "ExactMemorization",
            "ExtractionStrength",
            "exact_memorization",
            "extraction_strength",
        ],
        "soul_lightning.metrics.model_utility": ["ModelUtility"],
        "soul_lightning.metrics.multiple_choice": ["MultipleChoiceAccuracy", "multiple_choice_hits"],
        "soul_lightning.metrics.restoration": ["RestorationComparison", "RestorationShare", "compare_restoration"],
        "soul_lightning.metrics.rouge": ["RougeL", "RougeScores", "rouge_l"],
        "soul_lightning.metrics.token_statistics": ["TokenStatistics"],
        "soul_lightning.metrics.toxicity": ["ToxicityShare", "mean_toxicity", "toxicity_share"],
        "soul_lightning.metrics.truth_ratio": ["TruthRatio", "forget_truth_ratio", "prob_mean", "utility_truth_ratio"],
    },
)
