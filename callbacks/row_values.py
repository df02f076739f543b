"""What several callbacks measure of a row, from what a model says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning.pytorch import Trainer

from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.scoring import ScoringCallback
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.fluency import is_degenerate
from soul_lightning.metrics.likelihood import option_probability
from soul_lightning.metrics.memorization import exact_memorization, extraction_strength
from soul_lightning.metrics.multiple_choice import multiple_choice_hits
from soul_lightning.metrics.rouge import rouge_l
from soul_lightning.metrics.truth_ratio import truth_ratio
from soul_lightning.protocols import Probe
from soul_lightning.reports.charts import Curve
from soul_lightning.reports.layer_figure import layer_figure
from soul_lightning.reports.loggers import log_figure
from soul_lightning.scoring.measured_rows import MeasuredRow, Value
from soul_lightning.scoring.scored_model import AlternativeScores, ScoredModel
from soul_lightning.scoring.scorer import ExampleScore

Values = dict[str, Value]
FLUENT_ENOUGH = 0.8
"""Below this share of answers that are language a model has forgotten how to speak."""


def likelihood_values(score: ExampleScore) -> Values:
    """NLL in nats, labelled tokens, probability exp(−NLL/|y|)."""
    return {"nll": score.nll, "tokens": score.tokens, "probability": score.probability}


def memorization_values(score: ExampleScore) -> Values:
    """Exact memorisation and extraction strength."""
    hits = score.statistics.hits
    return {"exact_memorization": exact_memorization(hits), "extraction_strength": extraction_strength(hits)}


def truth_ratio_values(plain: ExampleScore, others: AlternativeScores) -> Values:
    """Both truth ratios, and the probability of the plain answer among all options."""
    true = (others.paraphrase or plain).mean_nll
    false = [score.mean_nll for score in others.perturbed]
    options = [score.nll for score in others.perturbed], [score.tokens for score in others.perturbed]
    return {
        "truth_ratio": float(truth_ratio([true], [false])[0]),
        "truth_ratio_arithmetic": float(truth_ratio([true], [false], aggregation="arithmetic")[0]),
        "option_probability": option_probability(plain.nll, plain.tokens, *options),
    }


def answer_values(model: ScoredModel, probe: Probe, max_new_tokens: int, batch_size: int = 32) -> dict[int, Values]:
    """Greedy answers with ROUGE-L against the true ones and whether they are fluent, by `Example.index`."""
    answers = model.answers(probe, max_new_tokens, batch_size)
    scores = rouge_l(answers, [row.answer for row in probe.examples])
    return {
        row.index: {
            "answer": answer,
            "rouge_l_recall": float(recall),
            "rouge_l_f1": float(f1),
            "fluent": not is_degenerate(answer),
        }
        for row, answer, recall, f1 in zip(probe.examples, answers, scores.recall, scores.f1, strict=True)
    }


def multiple_choice_rows(callback: ScoringCallback, model: ScoredModel, probe: Probe) -> list[MeasuredRow]:
    """Whether the right option of each question has the lowest NLL/|y|, lower than that of every other."""
    right, wrong = model.scores(probe), model.alternatives(probe)
    rows = []
    for example in probe.examples:
        if example.index in right and example.index in wrong:
            # A tie goes to the option that stands first: a model that prefers none must not be right every time.
            options = [*wrong[example.index].perturbed, right[example.index]]
            costs, tokens = [each.nll for each in options], [each.tokens for each in options]
            hits = multiple_choice_hits([costs], [tokens], [len(options) - 1])
            rows.append(callback.row(probe, example, correct=bool(hits[0])))
    return rows


def check_positive(caller: str, **settings: int) -> None:
    """Refuse counts that hold nothing.

    Args:
        caller: The callback, for the error.
        settings: Values by the names of the settings.

    Raises:
        MisconfigurationError: One is below 1.
    """
    for setting, value in settings.items():
        if value < 1:
            raise MisconfigurationError(f"{caller}: {setting} must be >= 1, got {value}")


def numbers(rows: Sequence[MeasuredRow], value: str) -> list[float]:
    """A measured value of the rows that have it, as numbers."""
    found = [row.values.get(value) for row in rows]
    return [float(number) for number in found if number is not None and not isinstance(number, str)]


def mean_of(rows: Sequence[MeasuredRow], value: str) -> float | None:
    """The mean of a measured value over the rows that have it; none where none has."""
    found = numbers(rows, value)
    return sum(found) / len(found) if found else None


def without_layers(levels: Mapping[str, Metrics]) -> dict[str, Metrics]:
    """Metrics by model without those of single layers (`layer_3…`)."""
    return {
        model: {name: value for name, value in metrics.items() if not name.startswith("layer_")}
        for model, metrics in levels.items()
    }


def log_layer_figures(trainer: Trainer, name: str, curves: Sequence[Curve]) -> None:
    """Show curves over layers.

    Args:
        trainer: Has the loggers.
        name: The metrics' group.
        curves: One or none.
    """
    for curve in curves:
        log_figure(trainer, f"{name}/layers", layer_figure(curve))


def of_role(rows: Sequence[MeasuredRow], role: str) -> list[MeasuredRow]:
    """The rows of the probes of a role."""
    return [row for row in rows if row.role == role]


def by_probe(rows: Sequence[MeasuredRow]) -> Mapping[str, list[MeasuredRow]]:
    """The rows of each probe, in their order."""
    found: dict[str, list[MeasuredRow]] = {}
    for row in rows:
        found.setdefault(row.probe, []).append(row)
    return found
