"""Values from outside: every metric row of a reference file is checked, and a row of an unknown name fails."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, get_args

import pytest
import torch
from sklearn.metrics import roc_auc_score

from soul_lightning.metrics import (
    ForgetQualityPValue,
    MembershipArea,
    ModelUtility,
    PrivLeak,
    RowMetric,
    TruthRatio,
)
from soul_lightning.metrics.forget_quality import forget_quality
from soul_lightning.metrics.likelihood import sequence_probability
from soul_lightning.metrics.membership import area_under_curve, privleak
from soul_lightning.metrics.membership_scores import min_k, min_k_plus_plus
from soul_lightning.metrics.memorization import exact_memorization, extraction_strength
from soul_lightning.metrics.model_utility import Group, model_utility
from soul_lightning.metrics.token_statistics import TokenStatistics, token_statistics
from soul_lightning.metrics.truth_ratio import (
    Aggregation,
    forget_truth_ratio,
    prob_mean,
    truth_ratio,
    utility_truth_ratio,
)
from soul_lightning.networks.predictions import Predictions
from soul_lightning.protocols import IGNORE_INDEX
from soul_lightning.scoring.scorer import ExampleScore
from tests.golden.reference_file import RELATIVE, reference_values
from tests.metrics.teacher_forced import Row, all_readings, in_precision, readings

Inputs = Mapping[str, Any]


def mean_nll(row: TokenStatistics) -> float:
    return ExampleScore(0, row).mean_nll


def probability(row: TokenStatistics) -> float:
    score = ExampleScore(0, row)
    assert score.probability == pytest.approx(sequence_probability([score.nll], [score.tokens]), rel=1e-12)
    return score.probability


def min_k_plus_plus_of(row: TokenStatistics, k: str) -> float:
    return min_k_plus_plus(row.log_probs, row.means, row.variances, float(k))


def ratios(inputs: Inputs, model: str = "", aggregation: Aggregation = "geometric") -> list[float]:
    found = truth_ratio(inputs[f"{model}paraphrased_avg_loss"], inputs[f"{model}perturbed_avg_loss"], aggregation)
    return [float(ratio) for ratio in found]


def area(inputs: Inputs) -> float:
    return area_under_curve(inputs["mia_forget_scores"], inputs["mia_holdout_scores"])


PER_EXAMPLE: dict[str, Callable[..., float]] = {
    r"avg_loss": mean_nll,
    r"prob": probability,
    r"min_k_([\d.]+)": lambda row, k: min_k(row.log_probs, float(k)),
    r"min_k_plus_plus_([\d.]+)": min_k_plus_plus_of,
    r"exact_memorization": lambda row: exact_memorization(row.hits),
    r"extraction_strength_floor0": lambda row: extraction_strength(row.hits),
}
SCALARS: dict[str, Callable[[Inputs], float | Sequence[float]]] = {
    r"truth_ratio": ratios,
    r"truth_ratio_soul_arithmetic": lambda inputs: ratios(inputs, aggregation="arithmetic"),
    r"truth_ratio_forget_agg": lambda inputs: forget_truth_ratio(ratios(inputs)),
    r"truth_ratio_utility_agg": lambda inputs: utility_truth_ratio(ratios(inputs)),
    r"prob_mean": lambda inputs: prob_mean(ratios(inputs)),
    r"forget_quality_ks_pvalue": lambda inputs: forget_quality(ratios(inputs), ratios(inputs, "retain_model_")),
    r"mia_auc": area,
    r"privleak": lambda inputs: privleak(area(inputs), inputs["retain_model_auc"]),
    r"model_utility_hmean": lambda inputs: model_utility(inputs["utility_nine"]),
}


def metric_named(name: str, table: Mapping[str, Callable[..., Any]]) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The metric of a row and the settings that its name carries; what stands behind a space explains the name."""
    for pattern, metric in table.items():
        match = re.fullmatch(pattern, name.split(" ")[0])
        if match:
            return metric, match.groups()
    pytest.fail(f"the reference file has a metric {name!r} that this test does not know")


def test_metrics_of_each_row() -> None:
    cases = reference_values()["cases"]
    assert cases
    for case in cases:
        labels = torch.tensor(case["inputs"]["labels"])
        logits = torch.tensor(case["inputs"]["logits"], dtype=torch.float64)
        rows = token_statistics(Predictions.from_logits(logits, labels))
        assert all(
            row.variances.dtype == row.means.dtype == row.log_probs.dtype == torch.float64 for row in rows.values()
        )
        for name, expected in case["per_example_metrics"].items():
            metric, settings = metric_named(name, PER_EXAMPLE)
            assert len(expected) == len(labels), name
            for place, row in rows.items():
                assert metric(row, *settings) == pytest.approx(expected[place], rel=RELATIVE), (name, place)


def test_metrics_of_whole_sets() -> None:
    rows = reference_values()["scalar_metrics"]
    assert rows
    for row in rows:
        for name, expected in row.items():
            if name != "inputs":
                metric, _ = metric_named(name, SCALARS)
                assert metric(row["inputs"]) == pytest.approx(expected, rel=RELATIVE), name


def truth_ratio_metric(inputs: Inputs, *settings: Any) -> TruthRatio:
    metric = TruthRatio(*settings)
    for part in (slice(3, None), slice(3)):
        metric.update(inputs["paraphrased_avg_loss"][part], inputs["perturbed_avg_loss"][part])
    return metric


def forget_quality_metric(inputs: Inputs) -> ForgetQualityPValue:
    metric = ForgetQualityPValue(ratios(inputs, "retain_model_"))
    for ratio in ratios(inputs)[::-1]:
        metric.update([ratio])
    return metric


def attacked(metric: MembershipArea, inputs: Inputs) -> MembershipArea:
    metric.update(holdout_scores=inputs["mia_holdout_scores"][5:])
    metric.update(inputs["mia_forget_scores"], inputs["mia_holdout_scores"][:5])
    return metric


def model_utility_metric(inputs: Inputs) -> ModelUtility:
    """The nine are given without names, and their harmonic mean asks for none."""
    metric = ModelUtility()
    nine = iter(inputs["utility_nine"])
    for group in get_args(Group):
        metric.update(group, [next(nine)], [next(nine)], [1 - next(nine)])
    return metric


CLASSES: dict[str, Callable[[Inputs], RowMetric]] = {
    r"truth_ratio_forget_agg": lambda inputs: truth_ratio_metric(inputs, "forget"),
    r"truth_ratio_utility_agg": lambda inputs: truth_ratio_metric(inputs, "utility"),
    r"prob_mean": lambda inputs: truth_ratio_metric(inputs, "prob_mean"),
    r"forget_quality_ks_pvalue": forget_quality_metric,
    r"mia_auc": lambda inputs: attacked(MembershipArea(), inputs),
    r"privleak": lambda inputs: attacked(PrivLeak(inputs["retain_model_auc"]), inputs),
    r"model_utility_hmean": model_utility_metric,
}
RATIOS: dict[str, Callable[[Inputs], TruthRatio]] = {
    r"truth_ratio": truth_ratio_metric,
    r"truth_ratio_soul_arithmetic": lambda inputs: truth_ratio_metric(inputs, "forget", "arithmetic"),
}


def test_classes_on_whole_sets() -> None:
    for row in reference_values()["scalar_metrics"]:
        for name, expected in row.items():
            if name == "inputs":
                continue
            metric, _ = metric_named(name, CLASSES | RATIOS)
            gathered = metric(row["inputs"])
            if isinstance(expected, list):
                assert sorted(gathered.rows("ratios")) == pytest.approx(sorted(expected), rel=RELATIVE), name
            else:
                assert gathered.compute().item() == pytest.approx(expected, rel=RELATIVE), name


def rows_of(inputs: Inputs) -> list[Row]:
    """Each row without the padding at its end."""
    rows = []
    for logits, labels, mask in zip(inputs["logits"], inputs["labels"], inputs["attention_mask"], strict=True):
        tokens = sum(mask)
        assert mask == [1] * tokens + [0] * (len(mask) - tokens)
        rows.append((torch.tensor(logits[:tokens], dtype=torch.float64), torch.tensor(labels[:tokens])))
    return rows


def expected_readings(case: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of `readings` from those of each row in the file."""
    by_name = case["per_example_metrics"]
    tokens = [sum(label != IGNORE_INDEX for label in labels[1:]) for labels in case["inputs"]["labels"]]
    nlls = [mean * count for mean, count in zip(by_name["avg_loss"], tokens, strict=True)]
    holdout = [place % 2 == 1 for place in range(len(tokens))]
    scores = {"mean_nll": "avg_loss", "min_k": "min_k_0.2", "min_k_plus_plus": "min_k_plus_plus_0.2"}
    return {
        "probability": fmean(by_name["prob"]),
        "perplexity": math.exp(sum(nlls) / sum(tokens)),
        "exact_memorization": fmean(by_name["exact_memorization"]),
        "extraction_strength": fmean(by_name["extraction_strength_floor0"]),
        **{f"area {name}": roc_auc_score(holdout, by_name[column]) for name, column in scores.items()},
    }


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, RELATIVE), (torch.float32, 1e-5)])
def test_classes_on_rows_padded_cut_and_ordered_in_any_way(dtype: torch.dtype, relative: float) -> None:
    for case in reference_values()["cases"]:
        expected = expected_readings(case)
        for found in all_readings(in_precision(rows_of(case["inputs"]), dtype)):
            assert found == pytest.approx(expected, rel=relative)


def test_bfloat16_logits_give_what_their_own_digits_give_in_float64() -> None:
    for case in reference_values()["cases"]:
        rows = in_precision(rows_of(case["inputs"]), torch.bfloat16)
        exact = readings(in_precision(rows, torch.float64), "right", len(rows), range(len(rows)))
        assert exact == pytest.approx(expected_readings(case), rel=0.05)
        for found in all_readings(rows):
            assert found == pytest.approx(exact, rel=1e-5)
