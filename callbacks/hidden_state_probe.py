"""Hidden-state probe: does a fact that is no longer said still stand inside of the network?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from soul_lightning.attacks.forgotten import kept_questions
from soul_lightning.attacks.probing import comparable, prompt_states, read_answers
from soul_lightning.callbacks.attack import ABOVE_REFERENCE, AttackCallback
from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import log_layer_figures, without_layers
from soul_lightning.callbacks.scoring import REFERENCE
from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.bootstrap import Array, Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.metrics.exchange import ceiling, swapped_means
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.charts import Curve, Series
from soul_lightning.reports.findings import Finding, above_all
from soul_lightning.reports.layer_figure import layer_curve
from soul_lightning.reports.layout import Headline
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.sharding import has_split_weights

LEAST_ROWS = 20
"""From fewer questions no probe learns anything."""
GUESSING = 0.5
ABOVE_HALF = "above the half that guessing gets"


class HiddenStateProbe(AttackCallback):
    """Linear probes on hidden states, one a layer: can the right answer of what must be gone be read from them?

    At each layer a ridge regression learns, from questions of the roles `retain`, `utility` and `control`, to read the
    words of the answer from the hidden state at the prompt's last token. It then reads the forgotten questions: how
    often does what it reads fit the right answer better than another subject's answer to the same relation?
    `layer_N_auc` is that share (0: the embeddings, N: behind block N), 0.5 for a model that never saw them. It does not
    depend on what the model says, so that it finds what a refusal or a changed last layer only hides.

    `best_auc` is that of the best layer. Its lower end holds over all layers: it lies above 0.5 where the best layer is
    better than it is with other subjects' answers in the place of the right ones. With a `reference` both models are
    compared row by row (`above_reference`). Answers without a word that occurs in the answers to learn from cannot be
    read and are left out. Where questions name no relation an answer fits its question by its kind alone: then only a
    reference says what that is worth. Needs questions of what must be gone, about five subjects or more: the answers of
    fewer cannot be exchanged in enough ways to rule out chance.

    Args:
        name: The metrics' group; two of a kind need different names.
        known_share: An attacker who knows the facts of so large a share of the forgotten subjects: the probe learns
            from these too, and is tried on the others.
        draws: How often answers are exchanged to see what chance does.
        **settings: See `AttackCallback` and `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    headlines = (Headline("best_auc", "hidden-state AUC"),)

    def __init__(self, name: str = "probe", known_share: float = 0.0, draws: int = 1999, **settings: Any) -> None:
        super().__init__(name, **settings)
        if not 0 <= known_share < 1 or draws < 1:
            raise MisconfigurationError(
                f"HiddenStateProbe: known_share must be at least 0 and below 1 and draws >= 1, got {known_share} and "
                f"{draws}"
            )
        ceiling(np.zeros(draws), self.confidence)  # says so where there are too few draws
        self.known_share = known_share
        self.draws = draws
        self._kept: list[Probe] = []
        self._asked: list[tuple[Probe, Example]] = []
        self._known = np.zeros(0, dtype=bool)
        self._can_read = np.zeros(0, dtype=bool)

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """The forgotten questions; it is said at once where a probe cannot learn or has nothing to read."""
        found = [probe for probe in super().select(probes) if probe.kind == "question"]
        if not found:
            raise MisconfigurationError(
                "HiddenStateProbe needs questions of the role forget, and there are only texts; give questions about "
                "what must be gone, or remove the callback"
            )
        self._kept = kept_questions(probes)
        self._asked = [(probe, row) for probe in found for row in probe.examples]
        entities = [row.subject or f"{probe.name} {row.index}" for probe, row in self._asked]
        every = sorted(set(entities))
        known = set(Random(self.seed).sample(every, round(self.known_share * len(every))))
        self._known = np.array([entity in known for entity in entities])
        answers, tried = self._answers_to_learn(), self._tried()
        if len(answers) < LEAST_ROWS:
            raise MisconfigurationError(
                f"HiddenStateProbe learns from at least {LEAST_ROWS} questions that the model may answer, and there "
                f"are {len(answers)}; give more of the roles retain, utility or control, raise known_share, or remove "
                f"the callback"
            )
        self._can_read = comparable(answers, tried)
        if not self._can_read.any():
            raise MisconfigurationError(
                f"HiddenStateProbe can read none of {len(tried)} questions: no relation has two subjects whose answers "
                f"share a word with the {len(answers)} answers to learn from; give kept questions of the same "
                f"relations, or raise known_share"
            )
        return found

    def _answers_to_learn(self) -> list[str]:
        kept = [row for probe in self._kept for row in probe.examples]
        known = [row for (_, row), is_known in zip(self._asked, self._known, strict=True) if is_known]
        return [row.answer for row in (*kept, *known)]

    def _tried(self) -> list[Example]:
        return [row for (_, row), is_known in zip(self._asked, self._known, strict=True) if not is_known]

    def row_settings(self) -> dict[str, object]:
        """What the probe learns from, too."""
        kept = [(rows_hash(probe.examples), repr(probe.template)) for probe in self._kept]
        own = {"known_share": self.known_share, "draws": self.draws, "seed": self.seed, "confidence": self.confidence}
        return super().row_settings() | own | {"kept": kept}

    def attack(self, model: ScoredModel) -> list[MeasuredRow]:
        """Fit the probes, and compare each row's answer with those of other subjects, at each layer.

        Returns:
            Rows with `layer_N`, see `Reading.preferences`, and `chance`, the same of all rows, see `Reading.chance`;
            rows that cannot be read, or are known, have neither.
        """
        if has_split_weights(model.adapter.network):
            raise MisconfigurationError(
                "HiddenStateProbe needs whole weights, and those of the network lie in parts on several processes; "
                "probe the exported model, with `soul-lightning audit` or on one device"
            )
        states = np.concatenate([prompt_states(model, probe) for probe in self.probes])
        learned = np.concatenate([*(prompt_states(model, probe) for probe in self._kept), states[self._known]])
        values: list[dict[str, float]] = [{} for _ in self._asked]
        if np.isfinite(states).all() and np.isfinite(learned).all():
            reading = read_answers(
                learned,
                self._answers_to_learn(),
                states[~self._known],
                self._tried(),
                confidence=self.confidence,
                draws=self.draws,
                seed=self.seed,
            )
            tried = np.flatnonzero(~self._known)
            for place, preferences in zip(tried[self._can_read], reading.preferences[self._can_read], strict=True):
                values[place] = {f"layer_{layer}": float(each) for layer, each in enumerate(preferences)}
                values[place]["chance"] = reading.chance
        else:
            rank_zero_warn(f"{self.name}: some hidden states are no finite numbers: the model has diverged")
        return [self.row(probe, row, **own) for (probe, row), own in zip(self._asked, values, strict=True)]

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """The area under the curve of each layer, and of the best."""
        metrics: Metrics = {}
        own = _read_rows(rows)
        if own:
            layers = self._layers(own)
            for layer, interval in enumerate(layers):
                metrics |= _with_ends(f"layer_{layer}_auc", interval)
            best, interval = self._best(own)
            metrics |= {"best_layer": best, **_with_ends("best_auc", interval)}
        reference = _read_rows(others.get(REFERENCE, []))
        if own and reference:
            metrics |= _with_ends("above_reference", self._best(own, reference)[1])
        return metrics

    def _layers(self, own: Sequence[MeasuredRow], reference: Sequence[MeasuredRow] = ()) -> list[Interval]:
        """The mean of each layer, or its mean difference to the reference, with the interval of that layer alone."""
        entities = [row.entity for row in own]
        columns = _above(own, reference).T
        return [mean_interval(list(each), entities, confidence=self.confidence, seed=self.seed) for each in columns]

    def _best(self, own: Sequence[MeasuredRow], reference: Sequence[MeasuredRow] = ()) -> tuple[int, Interval]:
        """The layer with the largest lower end, and its number.

        The lower end holds over all layers together: exchanged, the best layer reaches as far above chance with the
        probability that the confidence leaves. The upper end is the largest of all layers: none lies above.
        """
        layers = self._layers(own, reference)
        best = max(range(len(layers)), key=lambda layer: layers[layer].value)
        if reference:
            swapped = swapped_means(_above(own, reference), [row.entity for row in own], self.draws, self.seed)
            reach = ceiling(swapped.max(axis=1), self.confidence)
        else:
            reach = float(own[0].values["chance"]) - GUESSING
        value = layers[best].value
        return best, Interval(value, value - reach, max(layer.high for layer in layers))

    def findings(self) -> list[Finding]:
        """Whether what must be gone stands inside: above the reference and, with relations, above guessing."""
        own = _read_rows(self.current())
        reference = _read_rows(self.measured.get(REFERENCE, []))
        best: dict[str, tuple[int, Interval]] = {}
        if own and self._names_relations():
            layer, auc = self._best(own)
            best[ABOVE_HALF] = layer, Interval(auc.value - GUESSING, auc.low - GUESSING, auc.high - GUESSING)
        if own and reference:
            best[ABOVE_REFERENCE] = self._best(own, reference)
        if not best:
            return []
        above_what, verdict = above_all({name: interval for name, (_, interval) in best.items()})
        layer, value = best[above_what]
        where = f"behind block {layer}" if layer else "in the embeddings"
        measure = (
            f"share of comparisons in which a linear probe {where} of {_preferences(own).shape[1] - 1} reads the right "
            f"answer rather than another subject's, {above_what}: what stands inside, whatever is said"
        )
        return [self.finding(measure, value, own, question="remembers", verdict=verdict)]

    def _names_relations(self) -> bool:
        return all(row.relation is not None for row in self._tried())

    def table_levels(self) -> Mapping[str, Metrics]:
        """Without the numbers of each layer, which the figure shows."""
        return without_layers(self.levels)

    def notes(self) -> list[str]:
        """What could not be read, and what a number without relations is worth."""
        said = []
        left_out = int((~self._can_read).sum())
        if left_out:
            said.append(
                f"{self.name}: {left_out} of {len(self._can_read)} questions are left out, for no word of their answer "
                f"or of any other subject's is in the {len(self._answers_to_learn())} answers that the probe learned."
            )
        if not self._names_relations() and REFERENCE not in self.models:
            said.append(
                f"{self.name}: questions name no relation, so that an answer fits its question by its kind alone; only "
                f"a reference says whether a fact stands inside."
            )
        return said

    def curves(self) -> list[Curve]:
        """What is read at each layer, of this model and of the reference."""
        models = {"model": self.current(), REFERENCE: self.measured.get(REFERENCE, [])}
        layers = {name: self._layers(own) for name, rows in models.items() if (own := _read_rows(rows))}
        if not layers:
            return []
        curve = layer_curve("what linear probes read", "right answers read above others (share)", layers)
        across = (0, max(map(len, layers.values())) - 1)
        return [replace(curve, series={**curve.series, "guessing": Series(across, (GUESSING, GUESSING))})]

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """The metrics, and their curve over the layers for TensorBoard."""
        metrics = super().measure(trainer, pl_module)
        log_layer_figures(trainer, self.name, self.curves())
        return metrics


def _read_rows(rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
    """Those of which something was read."""
    return [row for row in rows if "layer_0" in row.values]


def _above(own: Sequence[MeasuredRow], reference: Sequence[MeasuredRow]) -> Array:
    """[rows, layers] preferences, or what they are above those of the reference, at the layers that both have."""
    values = _preferences(own)
    if not reference:
        return values
    by_key = {row.key: row for row in reference}  # the same rows: the hash says that the same answers can be read
    others = _preferences([by_key[row.key] for row in own])
    layers = min(values.shape[1], others.shape[1])
    return values[:, :layers] - others[:, :layers]


def _preferences(rows: Sequence[MeasuredRow]) -> Array:
    layers = sum(name.startswith("layer_") for name in rows[0].values)
    return np.array([[float(row.values[f"layer_{layer}"]) for layer in range(layers)] for row in rows])


def _with_ends(name: str, interval: Interval) -> Metrics:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
