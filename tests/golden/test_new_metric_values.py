"""Values from outside: the loss that membership attacks start from, and the attacks' sets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from soul_lightning.metrics.attack_scores import loss_score
from soul_lightning.metrics.attacks import true_positive_rate
from soul_lightning.metrics.token_statistics import token_statistics
from soul_lightning.networks.predictions import Predictions
from tests.golden.reference_file import RELATIVE, reference_values


def test_the_loss_of_each_row_and_the_token_mean_of_all() -> None:
    for case in reference_values()["cases"]:
        labels = torch.tensor(case["inputs"]["labels"])
        logits = torch.tensor(case["inputs"]["logits"], dtype=torch.float64)
        rows = list(token_statistics(Predictions.from_logits(logits, labels)).values())
        losses = [loss_score(row.log_probs) for row in rows]
        assert losses == pytest.approx(case["per_example_metrics"]["avg_loss"], rel=RELATIVE)
        token_mean = np.average(losses, weights=[len(row) for row in rows])
        assert token_mean == pytest.approx(case["losses"]["cross_entropy_token_mean"]["value"], rel=RELATIVE)


def test_true_positives_over_all_rates_have_the_area_of_the_file() -> None:
    """The area under the curve is the mean, over holdout rows, of the true positives that admitting each one brings."""
    for row in reference_values()["scalar_metrics"]:
        (name,) = (key for key in row if key.startswith("mia_auc"))
        forget, holdout = row["inputs"]["mia_forget_scores"], row["inputs"]["mia_holdout_scores"]
        assert not set(forget) & set(holdout)  # between ties the curve would be oblique
        steps = [true_positive_rate(forget, holdout, wrong / len(holdout)) for wrong in range(len(holdout))]
        assert np.mean(steps) == pytest.approx(row[name], rel=RELATIVE)
