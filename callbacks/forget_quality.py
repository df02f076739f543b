"""Forget quality: can the unlearned model be told from one that never learnt?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import (
    FLUENT_ENOUGH,
    answer_values,
    check_positive,
    mean_of,
    numbers,
    of_role,
    truth_ratio_values,
)
from soul_lightning.callbacks.scoring import REFERENCE, ScoringCallback
from soul_lightning.callbacks.sources import answered_probe, has_false_answers, limited, own_probes
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.forget_quality import forget_quality, soul_forget_quality
from soul_lightning.metrics.truth_ratio import forget_truth_ratio, prob_mean
from soul_lightning.protocols import Probe
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.reports.loggers import log_figure
from soul_lightning.reports.run_figures import distribution_figure
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel


class ForgetQuality(ScoringCallback):
    """TOFU's forget quality, and the truth ratios that it is made of, with a look at whether the model still speaks.

    `forget_quality` is the p-value of a Kolmogorov–Smirnov test between the truth ratios of the model and of a
    *retain-only* model on the forget rows (Maini et al. 2024): near 1 the two cannot be told apart. It needs a
    reference. `forget_truth_ratio` is mean(min(R, 1/R)), `prob_mean` the share of the true answer's probability.
    `soul_forget_quality` is the other number that SOUL's code calls by that name: this model's forget rows against its
    retain rows, R with arithmetic means, no reference. `fluency` is the share of greedy answers to forget questions
    that are language: a collapsed model can have a high forget quality. Needs a probe of the role `forget` whose rows
    have false answers (`perturbed`), and of the role `retain` for `soul_forget_quality`.

    Args:
        name: The metrics' group; two of a kind need different names.
        reference: The retain-only model: a Hugging Face folder, or a rows file (`rows/forget_quality_after.jsonl` of
            the run that trained it, `rows/forget_quality_model.jsonl` of `soul-lightning validate`). The same as
            `models: {retain-only: …}`.
        fluency_answers: So many forget questions are answered, drawn by `seed`; 0 for none.
        max_new_tokens: Most tokens of an answer.
        **settings: See `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    charts = (
        Chart("Forget against retain", "forget quality (1: like a model that never saw it)", "forget_quality"),
        Chart("Forget against retain", "truth ratio of forget rows", "forget_truth_ratio"),
    )
    headlines = (
        Headline("forget_quality", axis="forgotten", reading="1: like a model that never saw it"),
        Headline("forget_truth_ratio"),
        Headline("fluency"),
    )

    def __init__(
        self,
        name: str = "forget_quality",
        reference: str | None = None,
        fluency_answers: int = 32,
        max_new_tokens: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        self.add_reference(reference)
        if fluency_answers < 0:
            raise MisconfigurationError(f"ForgetQuality: fluency_answers must be >= 0, got {fluency_answers}")
        self.fluency_answers = fluency_answers
        check_positive("ForgetQuality", max_new_tokens=max_new_tokens)
        self.max_new_tokens = max_new_tokens
        self._asked: list[Probe] = []

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """Forget and retain rows with false answers, and the forget questions."""
        forget = [probe for probe in own_probes(probes, "forget") if has_false_answers(probe)]
        if not forget:
            there = ", ".join(f"{probe.name} ({probe.role}, {probe.kind})" for probe in probes) or "none"
            raise MisconfigurationError(
                f"ForgetQuality needs a probe of the role forget whose rows all have false answers (perturbed), and "
                f"there are: {there}; give the perturbed rows, or remove the callback"
            )
        asked = [answered_probe(probes, probe) for probe in forget]
        self._asked = [limited(probe, self.fluency_answers, self.seed) for probe in asked if probe is not None]
        retain = [probe for probe in own_probes(probes, "retain") if has_false_answers(probe)]
        return [*forget, *retain]

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """The truth ratio of each row, and the answers to some."""
        answers = {}
        if self.fluency_answers:
            for probe in self._asked:
                for index, values in answer_values(model, probe, self.max_new_tokens).items():
                    answers[probe.rows_of or probe.name, index] = values
        rows = []
        for probe in self.probes:
            scores, others = model.scores(probe), model.alternatives(probe)
            for example in probe.examples:
                is_scored = example.index in scores and example.index in others
                values = truth_ratio_values(scores[example.index], others[example.index]) if is_scored else {}
                said = answers.get((probe.name, example.index), {})
                kept = {name: said[name] for name in ("answer", "fluent") if name in said}
                rows.append(self.row(probe, example, **values, **kept))
        return rows

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """The p-values and means of the truth ratios."""
        forget, retain = of_role(rows, "forget"), of_role(rows, "retain")
        ratios = numbers(forget, "truth_ratio")
        reference = numbers(of_role(others.get(REFERENCE, []), "forget"), "truth_ratio")
        metrics: Metrics = {}
        if ratios and reference:
            metrics["forget_quality"] = forget_quality(ratios, reference)
        if ratios:  # a model that has diverged has none
            metrics |= {"forget_truth_ratio": forget_truth_ratio(ratios), "prob_mean": prob_mean(ratios)}
        if ratios and retain:
            metrics["soul_forget_quality"] = soul_forget_quality(
                numbers(forget, "truth_ratio_arithmetic"), numbers(retain, "truth_ratio_arithmetic")
            )
        fluency = mean_of(forget, "fluent")
        return metrics | ({"fluency": fluency} if fluency is not None else {})

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the test compares: how the truth ratios of each model's forget rows are distributed."""
        super().finish(trainer, pl_module)
        ratios = {model: numbers(of_role(rows, "forget"), "truth_ratio") for model, rows in self.measured.items()}
        figure = distribution_figure("truth ratio of each forget row", "truth ratio R (false by true answers)", ratios)
        if figure is not None:
            log_figure(trainer, f"{self.name}/truth_ratios", figure)

    def notes(self) -> list[str]:
        """Which models have forgotten how to speak."""
        return [
            f"{self.name}: only {fluency:.0%} of the answers of the model {model!r} are fluent, so that its forget "
            f"quality is that of gibberish."
            for model, metrics in self.levels.items()
            if (fluency := metrics.get("fluency")) is not None and fluency < FLUENT_ENOUGH
        ]
