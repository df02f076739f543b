"""Membership inference: can forget rows be told from rows that the model never saw?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from lightning.pytorch import LightningModule, Trainer

from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.row_values import numbers, of_role
from soul_lightning.callbacks.scoring import REFERENCE, ScoringCallback
from soul_lightning.callbacks.sources import likelihood_probes, missing_roles
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.attack_scores import lowercase_score, reference_score, zlib_score
from soul_lightning.metrics.attacks import correctness_attack, true_positive_rate
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import expanded, too_few
from soul_lightning.metrics.membership import (
    area_difference_interval,
    area_under_curve,
    area_under_curve_interval,
    privleak,
)
from soul_lightning.metrics.membership_scores import min_k, min_k_plus_plus
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.findings import LITTLE, Finding, Verdict
from soul_lightning.reports.layout import Chart, Headline
from soul_lightning.reports.loggers import log_histogram
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.scoring.scorer import ExampleScore

Attack = Literal["loss", "zlib", "min_k", "min_k_plus_plus", "lowercase", "gradient_norm"]
FORGET, HOLDOUT, RETAIN = "forget", "holdout", "retain"


class MembershipInference(ScoringCallback):
    """Attacks that tell members of the training data by a score of each row, high where it looks unlike a member.

    `membership/loss_auc` is P(a forget row's score is below a holdout row's): 1 is remembered, 0.5 the ideal, and below
    0.5 the forget rows stand out as unlikely, which gives unlearning away. Its bootstrap interval draws the rows of one
    subject together. `loss_tpr` is the share of forget rows found at 1 % false alarms. With a reference,
    `loss_privleak` is PrivLeak (Shi et al. 2025), and the attack `reference` compares each row's loss with the
    reference model's. With probes of the role `retain`, `svc_forget_as_holdout` is the attack of SOUL's code on each
    row's probability. Needs probes of the roles `forget` and `holdout`, which must differ in nothing but that the model
    saw the first.

    Args:
        name: The metrics' group; two of a kind need different names.
        attacks: `loss` (mean NLL), `zlib` (loss by compressed bytes), `min_k`, `min_k_plus_plus`; `lowercase` costs one
            more pass over the lower-cased answers, `gradient_norm` one backward pass a row.
        reference: The model that never saw the forget rows: a Hugging Face folder, or a rows file that this callback
            wrote when it was measured. The same as `models: {retain-only: …}`.
        k: Share of the tokens that Min-K % and Min-K %++ read.
        **settings: See `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    charts = (Chart("Privacy", "AUC of {} (0.5: nothing leaks)", "*_auc"),)
    headlines = (
        Headline("*_auc", "membership AUC", "forgotten", "0.5: nothing leaks"),
        Headline("*_privleak", "PrivLeak"),
    )

    def __init__(
        self,
        name: str = "membership",
        attacks: Sequence[Attack] = ("loss", "zlib", "min_k", "min_k_plus_plus"),
        reference: str | None = None,
        k: float = 0.2,
        **settings: Any,
    ) -> None:
        super().__init__(name, **settings)
        self.add_reference(reference)
        known = get_args(Attack)
        unknown = [attack for attack in attacks if attack not in known]
        if unknown or not attacks or not 0 < k <= 1:
            raise MisconfigurationError(
                f"MembershipInference: attacks must be some of {', '.join(known)} and k above 0 and at most 1, got "
                f"{list(attacks)} and {k}"
            )
        self.attacks = tuple(attacks)
        self.k = k

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """The two sets, and retain where there is any."""
        missing = missing_roles(probes, (FORGET, HOLDOUT))
        if missing:
            raise MisconfigurationError(
                f"MembershipInference needs probes of the roles forget and holdout, and {missing}; give rows that the "
                f"model never saw as holdout, or remove the callback"
            )
        return [probe for role in (FORGET, HOLDOUT, RETAIN) for probe in likelihood_probes(probes, role)]

    def row_settings(self) -> dict[str, object]:
        """Scores depend on k too."""
        return super().row_settings() | {"k": self.k}

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """Every attack's score of each row; of retain rows the loss alone."""
        rows = []
        for probe in self.probes:
            scores = model.scores(probe)
            wanted = {"loss", *(self.attacks if probe.role != RETAIN else ())}
            lower = self._lowercase(model, probe) if "lowercase" in wanted else {}
            norms = model.gradient_norms(probe) if "gradient_norm" in wanted else {}
            for example in probe.examples:
                if example.index not in scores:
                    continue
                score = scores[example.index]
                values = self._of_one_pass(score, example, wanted)
                if example.index in lower:
                    values["lowercase"] = lowercase_score(score.mean_nll, lower[example.index])
                if example.index in norms:
                    values["gradient_norm"] = norms[example.index]
                rows.append(self.row(probe, example, probability=score.probability, **values))
        return rows

    def _of_one_pass(self, score: ExampleScore, example: Example, wanted: Collection[str]) -> dict[str, float]:
        tokens, loss = score.statistics, score.mean_nll
        values = {"loss": loss}
        if "zlib" in wanted:
            values["zlib"] = zlib_score(loss, example.answer)
        if "min_k" in wanted:
            values["min_k"] = min_k(tokens.log_probs, self.k)
        if "min_k_plus_plus" in wanted:
            values["min_k_plus_plus"] = min_k_plus_plus(tokens.log_probs, tokens.means, tokens.variances, self.k)
        return values

    def _lowercase(self, model: ScoredModel, probe: Probe) -> dict[int, float]:
        lowered: list[Example] = [replace(row, answer=row.answer.lower()) for row in probe.examples]
        return {index: score.mean_nll for index, score in model.score_texts(lowered, probe).items()}

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """The metrics, and how the scores of members and of non-members are distributed."""
        metrics = super().measure(trainer, pl_module)
        for attack in self.attacks:
            for role, who in ((FORGET, "members"), (HOLDOUT, "non_members")):
                scores = numbers(of_role(self.measured[self._current], role), attack)
                log_histogram(trainer, f"{self.name}/{attack}_{who}", scores)
        return metrics

    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """Area under the curve with its interval, true positives, and PrivLeak, by attack."""
        reference = others.get(REFERENCE)
        metrics: Metrics = {}
        for attack in self.attacks:
            metrics |= self._attack(attack, rows)
            area = metrics.get(f"{attack}_auc")
            if reference is not None and area is not None:
                metrics[f"{attack}_privleak"] = _privleak(area, reference, attack)
        if reference is not None:
            metrics |= self._attack("reference", _against(rows, reference))
        if of_role(rows, RETAIN):
            metrics |= self._svc(rows)
        return metrics

    def _attack(self, attack: str, rows: Sequence[MeasuredRow]) -> Metrics:
        sets = {
            role: [row for row in of_role(rows, role) if row.values.get(attack) is not None]
            for role in (FORGET, HOLDOUT)
        }
        forget, holdout = (numbers(sets[role], attack) for role in (FORGET, HOLDOUT))
        if not forget or not holdout:  # of a model that has diverged
            return {}
        area = area_under_curve_interval(
            forget,
            holdout,
            forget_entities=[row.entity for row in sets[FORGET]],
            holdout_entities=[row.entity for row in sets[HOLDOUT]],
            seed=self.seed,
        )
        return {
            f"{attack}_auc": area.value,
            f"{attack}_auc_low": area.low,
            f"{attack}_auc_high": area.high,
            f"{attack}_tpr": true_positive_rate(forget, holdout),
        }

    def findings(self) -> list[Finding]:
        """Whether any attack tells forget rows from holdout rows, to either side; all attacks hold together."""
        rows, reference = self.measured.get(self._current, []), self.measured.get(REFERENCE)
        confidence = 1 - (1 - self.confidence) / len(self.attacks)
        found = [(self._leak(rows, reference, attack, confidence), attack) for attack in self.attacks]
        leaks = [(interval, attack) for interval, attack in found if interval is not None]
        if not leaks:
            return []
        clear = [leak for leak in leaks if _distance(leak[0]) > 0]
        if clear:
            interval, attack = max(clear, key=lambda leak: _distance(leak[0]))
        else:  # nothing leaks only if no attack leaves a doubt
            interval, attack = max(leaks, key=lambda leak: _reach(leak[0]))
        against = "that of a model that never saw them" if reference is not None else "0.5"
        asked = [row for row in rows if row.role in (FORGET, HOLDOUT)]
        measure = f"area under the curve of the attack {attack}, forget against holdout rows, less {against}"
        verdict: Verdict = "yes" if clear else "no" if _reach(interval) <= LITTLE else "unclear"
        return [self.finding(measure, interval, asked, question="leaks_membership", verdict=verdict)]

    def _leak(
        self, rows: Sequence[MeasuredRow], reference: Sequence[MeasuredRow] | None, attack: str, confidence: float
    ) -> Interval | None:
        """The area less that of the reference, or less 0.5."""
        beside = {row.key: row for row in reference or ()}
        sets = [
            [row for row in of_role(rows, role) if attack in row.values and _has(beside, row, attack, reference)]
            for role in (FORGET, HOLDOUT)
        ]
        if not all(sets):
            return None
        forget, holdout = (numbers(each, attack) for each in sets)
        forget_entities, holdout_entities = ([row.entity for row in each] for each in sets)
        fewest = min(len(set(forget_entities)), len(set(holdout_entities)))
        proves_nothing = too_few(fewest, confidence)
        settings: dict[str, Any] = {
            "confidence": confidence if proves_nothing else expanded(confidence, fewest),
            "seed": self.seed,
        }
        if reference is not None:
            others = [numbers([beside[row.key] for row in each], attack) for each in sets]
            entities = (forget_entities, holdout_entities)
            found = area_difference_interval((forget, holdout), (others[0], others[1]), entities=entities, **settings)
        else:
            area = area_under_curve_interval(
                forget, holdout, forget_entities=forget_entities, holdout_entities=holdout_entities, **settings
            )
            found = Interval(area.value - 0.5, area.low - 0.5, area.high - 0.5)
        return Interval(found.value, -1.0, 1.0) if proves_nothing else found

    def _svc(self, rows: Sequence[MeasuredRow]) -> Metrics:
        forget, retain, holdout = (numbers(of_role(rows, role), "probability") for role in (FORGET, RETAIN, HOLDOUT))
        if not (forget and retain and holdout):
            return {}
        found = correctness_attack(forget, retain, holdout, seed=self.seed)
        return {"svc_forget_as_holdout": found.forget_as_holdout, "svc_shadow_accuracy": found.shadow_accuracy}


def _distance(interval: Interval) -> float:
    """How far the whole interval lies from 0; below 0 if it holds 0."""
    return max(interval.low, -interval.high)


def _reach(interval: Interval) -> float:
    """How far its further end does."""
    return max(interval.high, -interval.low)


def _has(
    beside: Mapping[tuple[str, int], MeasuredRow],
    row: MeasuredRow,
    attack: str,
    reference: Sequence[MeasuredRow] | None,
) -> bool:
    return reference is None or (row.key in beside and attack in beside[row.key].values)


def _privleak(area: float, reference: Sequence[MeasuredRow], attack: str) -> float | None:
    forget, holdout = (numbers(of_role(reference, role), attack) for role in (FORGET, HOLDOUT))
    if not forget or not holdout:
        return None
    retain_area = area_under_curve(forget, holdout)
    return privleak(area, retain_area) if retain_area < 1 else None


def _against(rows: Sequence[MeasuredRow], reference: Sequence[MeasuredRow]) -> list[MeasuredRow]:
    """The rows with the score of the attack that knows the reference's losses."""
    losses = {row.key: numbers([row], "loss")[0] for row in reference if "loss" in row.values}
    return [
        replace(row, values={**row.values, "reference": reference_score(numbers([row], "loss")[0], losses[row.key])})
        for row in rows
        if row.key in losses
    ]
