"""Quantization: does rounding the weights, as for deployment, bring back what was unlearned?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console

from soul_lightning.attacks.copies import left_alone
from soul_lightning.attacks.knowledge import knowledge
from soul_lightning.attacks.quantization import SchemeName, check_schemes, quantized_copy
from soul_lightning.callbacks.attack import ABOVE_REFERENCE, AttackCallback
from soul_lightning.callbacks.base import EVALUATIONS, Metrics, ProbeCallback
from soul_lightning.callbacks.row_values import mean_of, numbers
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.reports.charts import BarChart
from soul_lightning.reports.evaluation import EvaluationSection, evaluation_table
from soul_lightning.reports.findings import LITTLE, Finding, above_all, says_most
from soul_lightning.reports.layout import Headline
from soul_lightning.scoring.measured_rows import MeasuredRow, Value
from soul_lightning.scoring.scored_model import ScoredModel

UNROUNDED: Literal["none"] = "none"
"""Stands where a scheme's name does, for the model as it is."""
MEASURED = ("known", "guessed", "preference", "probability")
"""Values of a row that have a mean, see `knowledge`."""
GAINED = "gained"


class QuantizationAttack(AttackCallback):
    """Rounds copies of the model to 8 and 4 bits, and measures everything before and after.

    Unlearning that moved weights by less than half a step of the grid is undone by rounding (Zhang et al. 2025,
    «Catastrophic failure of LLM unlearning via quantization»). Of each scheme S, and of the model as it is under
    `none`, `quantization/S/known` is the share of forgotten questions answered right, `guessed` how often the same
    answers are right elsewhere, `preference` and `probability` what the right answer is worth (see
    `soul_lightning.attacks.knowledge.knowledge`). `quantization/S/gained` is the mean over rows of known − guessed
    under S less the same under `none`; of texts, of their probability. Every other measuring callback of the Trainer
    that looks at the same network measures the copies too, as `quantization/S/utility/…` beside
    `quantization/none/utility/…`, but for other attacks, and not before the first step. A table at the end shows them
    side by side.

    Embeddings and the output head are not rounded, and adapters are merged first, see
    `soul_lightning.attacks.quantization.quantized_copy`. Every scheme costs one copy of the model, one at a time.

    Args:
        schemes: `int8` (by output channel) and `int4` (by group) are plain rounding to the nearest; `nf4` and
            `bnb_int8` are bitsandbytes', `torchao_int8` and `torchao_int4` torchao's.
        group_size: So many weights share a step in `int4` and `torchao_int4`.
        name: The metrics' group; two of a kind need different names.
        **settings: See `AttackCallback`.

    Raises:
        MisconfigurationError: A setting is out of range, or a scheme's package is not installed.
    """

    headlines = (Headline(f"*/{GAINED}", "regained by rounding"),)

    def __init__(
        self,
        schemes: Sequence[SchemeName] = ("int8", "int4"),
        group_size: int = 128,
        name: str = "quantization",
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        check_schemes(schemes, group_size, type(self).__name__)
        self.schemes = tuple(schemes)
        self.every_scheme: tuple[SchemeName | Literal["none"], ...] = (UNROUNDED, *self.schemes)
        self.group_size = group_size
        self.side_by_side: dict[str, dict[str, Metrics]] = {}

    def row_settings(self) -> dict[str, object]:
        """What is gained depends on how the weights are rounded."""
        return super().row_settings() | {"schemes": self.schemes, "group_size": self.group_size}

    def attack(self, model: ScoredModel) -> list[MeasuredRow]:
        """Round, and ask for what was forgotten before and after."""
        known = {scheme: self._known(self._rounded(model, scheme)) for scheme in self.every_scheme}
        rows = []
        for probe in self.probes:
            for example in probe.examples:
                values: dict[str, Value] = {}
                before = _worth(known[UNROUNDED][probe.name, example.index])
                for scheme in self.every_scheme:
                    own = known[scheme][probe.name, example.index]
                    values |= {f"{scheme}_{name}": value for name, value in own.items()}
                    after = _worth(own)
                    if scheme != UNROUNDED and before is not None and after is not None:
                        values[f"{scheme}_{GAINED}"] = after - before
                rows.append(self.row(probe, example, **values))
        return rows

    def _known(self, model: ScoredModel) -> dict[tuple[str, int], dict[str, Value]]:
        return {
            (probe.name, index): values
            for probe in self.probes
            for index, values in knowledge(model, probe, self.asking).items()
        }

    def _rounded(self, model: ScoredModel, scheme: SchemeName | Literal["none"]) -> ScoredModel:
        if scheme == "none":
            return model
        copy = quantized_copy(model.adapter.network, scheme, self.group_size, type(self).__name__)
        return replace(model, adapter=replace(model.adapter, network=copy), found={})

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """Means over rows."""
        means = {
            f"{scheme}/{name}": mean_of(rows, f"{scheme}_{name}")
            for scheme in self.every_scheme
            for name in (*MEASURED, GAINED)
        }
        return {name: value for name, value in means.items() if value is not None}

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Attack, and let the other callbacks measure the copies."""
        own = super().measure(trainer, pl_module)
        self.side_by_side = {self.name: _by_scheme(own)}
        beside = self._others_at_work(trainer)
        if not beside:
            return own
        model = self._model(trainer)
        with left_alone(self.adapter.network):
            measured = {scheme: _measured_by(beside, self._rounded(model, scheme)) for scheme in self.every_scheme}
        others: Metrics = {}
        for callback in beside:
            columns: dict[str, Metrics] = {scheme: found[callback.name] for scheme, found in measured.items()}
            if any(columns.values()):  # not all measure what the model says
                self.side_by_side[callback.name] = columns
            for scheme, metrics in columns.items():
                others |= {f"{scheme}/{callback.name}/{name}": value for name, value in metrics.items()}
        return own | others

    def _others_at_work(self, trainer: Trainer) -> list[ProbeCallback]:
        """Callbacks that measure the same network; before the first step those behind this one are not ready."""
        if trainer.state.fn not in EVALUATIONS and trainer.global_step == 0:
            return []
        return [
            callback
            for callback in getattr(trainer, "callbacks", [])
            if isinstance(callback, ProbeCallback)
            and not isinstance(callback, AttackCallback)
            and _measured_network(callback) is _measured_network(self)
        ]

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what stands before and after rounding, side by side."""
        if self.report and self.side_by_side and trainer.is_global_zero:
            sections = [EvaluationSection(name, columns) for name, columns in self.side_by_side.items()]
            Console().print(evaluation_table(sections, "Before (none) and after rounding the weights"))
        super().finish(trainer, pl_module)

    def findings(self) -> list[Finding]:
        """Whether a scheme brings back what the model does not know as it is; that of the scheme that says most.

        It does if the model gains and, with a reference, gains more than that. All schemes hold together (Bonferroni).
        """
        together = 1 - (1 - self.confidence) / len(self.schemes)
        found = []
        for scheme in self.schemes:
            value = f"{scheme}_{GAINED}"
            compared = self.compared(value, confidence=together)  # what is gained is above guessing as it is
            if not compared:
                continue
            rows = [row for row in self.current() if value in row.values]
            if any(f"{scheme}_known" in row.values for row in rows):
                above_what, verdict = above_all(compared)
                measure = f"of {len(rows)} questions answered more under {scheme} than before rounding"
                measure += f", {above_what}"
            else:  # rounding moves a text's probability a little in every model
                above_what, verdict = above_all(compared, bound=LITTLE, little=0.0)
                measure = f"mean probability that {len(rows)} texts gain under {scheme}"
                measure += f", {above_what}" if above_what == ABOVE_REFERENCE else ""
            found.append(self.finding(measure, compared[above_what], rows, question="recovers", verdict=verdict))
        return says_most(found)

    def bars(self) -> list[BarChart]:
        """What is known as the model is, and under each scheme."""
        rows = self.current()
        asked = [row for row in rows if f"{UNROUNDED}_known" in row.values]
        rows, name = (asked, "known") if asked else (rows, "probability")
        means = []
        for scheme in self.every_scheme:
            own = [row for row in rows if f"{scheme}_{name}" in row.values]
            if own:
                values, entities = numbers(own, f"{scheme}_{name}"), [row.entity for row in own]
                mean = mean_interval(values, entities, confidence=self.confidence, seed=self.seed, is_share=True)
                means.append(("not rounded" if scheme == UNROUNDED else scheme, mean))
        what = "share of questions answered right (0 to 1)" if asked else "probability of the text (0 to 1)"
        return [BarChart("What is known before and after rounding the weights", what, means)] if means else []


def _measured_by(callbacks: Sequence[ProbeCallback], model: ScoredModel) -> dict[str, Metrics]:
    """What each callback measures of a model; those that read texts alike share its passes."""
    found = {}
    for callback in callbacks:
        own = callback.adapter.tokenizer
        if own is not model.adapter.tokenizer:
            found[callback.name] = callback.metrics_of(
                replace(model, adapter=replace(model.adapter, tokenizer=own), found={})
            )
        else:
            found[callback.name] = callback.metrics_of(model)
    return found


def _worth(values: Mapping[str, Value]) -> float | None:
    """What a row shows to be known beyond guessing; a text's probability."""
    if "known" in values:
        return float(values["known"]) - float(values.get("guessed", 0.0))
    return float(values["probability"]) if "probability" in values else None


def _by_scheme(metrics: Metrics) -> dict[str, Metrics]:
    columns: dict[str, Metrics] = {}
    for name, value in metrics.items():
        scheme, _, rest = name.partition("/")
        columns.setdefault(scheme, {})[rest] = value
    return columns


def _measured_network(callback: ProbeCallback) -> object:
    network = callback.adapter.network
    return network.network if isinstance(network, LogitsNetwork) else network
