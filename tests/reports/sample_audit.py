"""An audit as it may come: long names, many parts, some of them not run, numbers that are missing, hostile texts."""

from __future__ import annotations

import math

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.audit import AuditPart, AuditReport
from soul_lightning.reports.charts import BarChart, Curve, Series
from soul_lightning.reports.findings import Finding, Question, Verdict

REWRITES = (
    "own words", "paraphrase", "few-shot, the same author", "few-shot, retained authors", "prefix of the true answer",
    "role play", "hypothetical story", "character noise", "in the style of a translation", "as a form to fill in",
    "any of 16 sampled answers", "debate between two experts who were asked to disagree on every single point of it",
)  # fmt: skip
HOSTILE = "<script>document.title='run'</script><img src=https://example.com/x.png onerror=alert(1)>"
"""What a model may have said, or a folder be called."""
STEPS = (0, 1, 2, 5, 10, 20, 40, 60, 80, 100)


def finding(
    question: Question, source: str, measure: str, value: tuple[float, float, float], verdict: Verdict, rows: int = 48
) -> Finding:
    return Finding(question, source, measure, Interval(*value), 0.95, rows, max(rows // 4, 1), verdict)


def sample_audit() -> AuditReport:
    return AuditReport(
        model="runs/2026-05-17/tofu-forget10-npo-sophia-g-lr1e-5-beta0.1-seed3407/exports/SmolLM2-135M-Instruct-unlearned",
        hash_before="5f0c2a91d3b84e67a1f09c5572e8d414",
        hash_after="5f0c2a91d3b84e67a1f09c5572e8d414",
        reference="runs/2026-05-14/tofu-retain90-finetuned-seed3407/exports/SmolLM2-135M-Instruct",
        original="runs/2026-05-14/tofu-full-finetuned-seed3407/exports/SmolLM2-135M-Instruct",
        config="audit-smollm2.yaml",
        config_hash="9d1c64a7e02bb3f5",
        seed=3407,
        versions={"soul_lightning": "0.1.0", "torch": "2.13.0", "transformers": "5.3.0", "python": "3.11.9"},
        date="2026-05-17T09:30:00+00:00",
        minutes_allowed=30.0,
        minutes_used=28.4,
        parts=(prompts(), probes(), relearning(), quantization(), membership(), utility(), readout(), *not_run()),
    )


def prompts() -> AuditPart:
    rates = [0.04, 0.08, 0.31, 0.06, 0.42, 0.33, 0.12, 0.02, 0.0, 0.1, 0.48, 0.15]
    rows = [
        (name, Interval(rate, max(rate - 0.09, -0.02), rate + 0.13)) for name, rate in zip(REWRITES, rates, strict=True)
    ]
    return AuditPart(
        "prompts",
        "PromptAttack",
        metrics={
            "own_words": 0.04, "own_words_low": 0.0, "own_words_high": 0.12, "any_of_16": 0.48, "any_of_16_low": 0.34,
            "any_of_16_high": 0.62, "refusals": 0.125, "mean_answer_length_in_tokens_of_all_sampled_answers": 1234.5,
            "gibberish": None,
        },
        findings=[
            finding(
                "remembers", "prompts", "of questions answered, above a model that never saw it (prompts: prefix of "
                "the true answer)", (0.42, 0.31, 0.55), "yes",
            ),
            finding(
                "remembers", "prompts", "of questions answered in their own words, above a model that never saw it",
                (0.04, -0.01, 0.09), "no",
            ),
        ],
        seconds=412.7,
        bars=[BarChart("Success of each way of asking", "share of questions answered (0 to 1)", rows)],
    )  # fmt: skip


def probes() -> AuditPart:
    layers = list(range(13))
    area = [0.5 + 0.3 * math.exp(-((layer - 7) ** 2) / 8) for layer in layers]
    reference = [0.5 + 0.03 * math.sin(layer) for layer in layers]

    def band(values: list[float], width: float) -> Series:
        return Series(layers, values, [each - width for each in values], [each + width for each in values])

    return AuditPart(
        "linear-probe",
        "ProbingAttack",
        metrics={"best_layer": 7.0, "best_area": 0.8, "best_area_low": 0.71, "best_area_high": 0.88},
        findings=[
            finding(
                "remembers", "linear-probe", "area under the curve of a linear probe at the best of 13 layers, less "
                "that of a model that never saw it", (0.28, 0.17, 0.39), "yes",
            )
        ],
        seconds=96.2,
        notes=["linear-probe: 3 of 51 questions are left out, for no word of their answer <is> known."],
        curves=[
            Curve(
                "Does the fact still stand inside?", "layer (0 is the embedding)",
                "area under the curve of a linear probe (0.5 by guessing)",
                {"audited model": band(area, 0.08), "never saw it": band(reference, 0.06)},
            )
        ],
    )  # fmt: skip


def relearning() -> AuditPart:
    names = {"8 forgotten rows": 14.0, "related text": 45.0, "unrelated text": 300.0, "never saw it, 8 rows": 70.0}
    series = {}
    for name, pace in names.items():
        values: list[float | None] = [0.04 + 0.86 * (1 - math.exp(-step / pace)) for step in STEPS]
        if name == "unrelated text":
            values[6] = None
        lows = [None if value is None else value - 0.07 for value in values]
        highs = [None if value is None else min(value + 0.07, 1.0) for value in values]
        series[name] = Series(STEPS, values, lows, highs)
    return AuditPart(
        "relearning",
        "RelearningAttack",
        metrics={"steps_to_half": 9.7, "area": 0.71, "area_low": 0.62, "area_high": 0.79, "half_unrelated": None},
        findings=[
            finding(
                "recovers", "relearning", "of the lost answers back after 100 steps on 8 forgotten rows, above a model "
                "that never saw them", (0.22, -0.03, 0.44), "unclear", 40,
            )
        ],
        seconds=655.0,
        curves=[Curve("Recovery while relearning", "relearning steps", "share of held-out questions answered", series)],
    )  # fmt: skip


def quantization() -> AuditPart:
    rows = [
        ("16 bits", Interval(0.04, 0.0, 0.11)),
        ("8 bits", Interval(0.05, 0.0, 0.12)),
        ("4 bits", Interval(0.06, 0.01, 0.15)),
    ]
    return AuditPart(
        "quantization",
        "QuantizationAttack",
        metrics={"int8": 0.05, "int4": 0.06},
        findings=[
            finding(
                "recovers",
                "quantization",
                "of questions answered at 4 bits, more than before",
                (0.02, -0.03, 0.08),
                "no",
            )
        ],
        seconds=88.1,
        bars=[BarChart("After rounding the weights", "share of questions answered (0 to 1)", rows)],
    )


def membership() -> AuditPart:
    measure = "area under the curve of the attack min_k_plus_plus, forget against holdout rows, less 0.5"
    return AuditPart(
        "membership",
        "MembershipInference",
        metrics={"loss_auc": 0.503, "min_k_plus_plus_auc": 0.521, "privleak": -1.3e-5, "svc_forget_as_holdout": None},
        findings=[finding("leaks_membership", "membership", measure, (0.021, -0.05, 0.09), "no", 400)],
        seconds=61.0,
    )


def utility() -> AuditPart:
    return AuditPart(
        "utility",
        "Utility",
        metrics={"model_utility": 0.61, "perplexity": 13.42, "model_utility_relative": 0.97},
        findings=[
            finding(
                "useful",
                "utility",
                "of the probability that what must stay has under the model before (1: all of it is left)",
                (0.96, 0.93, 1.0),
                "yes",
                400,
            ),
        ],
        seconds=140.3,
    )


def readout() -> AuditPart:
    """Answers no question, and has numbers far from 1 and below 0."""
    return AuditPart(
        "logits",
        "LogitAnalysis",
        metrics={f"layer_{layer}_log_prob": -18.0 + layer for layer in range(4)},
        seconds=12.0,
        curves=[
            Curve(
                HOSTILE, "layer", "log-probability of the forgotten answer (nats a token)",
                {HOSTILE: Series([0, 4, 8, 12], [-18.2, -15.1, -11.9, None])},
            )
        ],
        bars=[
            BarChart("Nothing to see", "share of answers", [("no number", Interval(math.nan, math.nan, math.nan))]),
            BarChart("Far", "perplexity", [("漢字" * 16, Interval(1.3e6, 1e6, 2e6)), ("a" * 90, Interval(9, 8, 9))]),
        ],
    )  # fmt: skip


def not_run() -> list[AuditPart]:
    return [
        AuditPart("relearning-unrelated", "RelearningAttack", not_run="the 30 minutes of the budget were used up"),
        AuditPart(
            "forget-quality", "ForgetQuality", not_run="the data has no paraphrased answers, which truth ratios need"
        ),
    ]
