"""Values from outside: every row of a reference file whose objective or optimizer is built is checked."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from soul_lightning import Sophia
from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives import NPO, CrossEntropy, GradientAscent, KLDivergence, Objective

RELATIVE = 1e-6


@cache
def reference_values() -> dict[str, Any]:
    path = os.environ.get("SOUL_REFERENCE_VALUES")
    if not path:
        pytest.skip("SOUL_REFERENCE_VALUES names no file of reference values")
    values: dict[str, Any] = json.loads(Path(path).read_text())
    return values


BUILDERS: list[tuple[str, Any]] = [
    (r"cross_entropy_token_mean", lambda: CrossEntropy()),
    (r"gradient_ascent", lambda: GradientAscent()),
    (r"npo_sequence_sum_beta([\d.]+)", lambda beta: NPO(float(beta), "sequence")),
    (r"npo_per_token_beta([\d.]+)", lambda beta: NPO(float(beta), "token")),
    (r"npo_batch_token_mean_beta([\d.]+)", lambda beta: NPO(float(beta), "batch")),
    (r"kl_ref_to_model_masked_token_mean", lambda: KLDivergence("forward")),
    (r"kl_model_to_ref_masked_token_mean", lambda: KLDivergence("reverse")),
]


def objective_named(name: str) -> Objective | None:
    for pattern, build in BUILDERS:
        match = re.fullmatch(pattern, name)
        if match:
            objective: Objective = build(*match.groups())
            return objective
    return None


def test_losses_and_gradient_norms() -> None:
    checked = 0
    for case in reference_values()["cases"]:
        labels = torch.tensor(case["inputs"]["labels"])
        reference = Predictions.from_logits(torch.tensor(case["inputs"]["ref_logits"], dtype=torch.float64), labels)
        for name, expected in case["losses"].items():
            objective = objective_named(name)
            if objective is None:
                continue
            logits = torch.tensor(case["inputs"]["logits"], dtype=torch.float64, requires_grad=True)
            predictions = Predictions.from_logits(logits, labels)
            loss = objective(predictions, Reference(reference.log_probs, reference.logits))
            loss.backward()
            assert logits.grad is not None
            assert loss.item() == pytest.approx(expected["value"], rel=RELATIVE), name
            assert float(logits.grad.norm()) == pytest.approx(expected["grad_logits_l2"], rel=RELATIVE), name
            checked += 1
    assert checked >= 7 * len(reference_values()["cases"])


def test_sophia_walks_the_official_trajectory() -> None:
    """The official code keeps ĝ² in h and multiplies by a constant `bs` at the step: N = bs at the refresh."""
    for row in reference_values()["sophia"]:
        (name,) = [key for key in row if key.startswith("official_sophia_g")]
        match = re.search(r"bs=(\d+)", name)
        assert match is not None
        hyper = row["hyper"]
        parameter = torch.nn.Parameter(torch.tensor(row["inputs"]["param"]))
        optimizer = Sophia(
            [parameter], hyper["lr"], tuple(hyper["betas"]), hyper["rho"], hyper["weight_decay"], curvature_init="zero"
        )
        sampled = iter(row["inputs"]["sampled_grads"])
        for number, (gradient, expected) in enumerate(zip(row["inputs"]["grads"], row[name], strict=True)):
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            torch.testing.assert_close(parameter.detach(), torch.tensor(expected), rtol=RELATIVE, atol=1e-7)
            if number % 2 == 0:
                parameter.grad = torch.tensor(next(sampled))
                optimizer.update_curvature(float(match.group(1)))
