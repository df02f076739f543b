"""Membership inference at epoch ends: does the forget set still look like training data?"""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch import LightningModule, Trainer
from transformers import PreTrainedTokenizerBase

from soul_lightning.callbacks.base import Metrics, ProbeCallback
from soul_lightning.callbacks.sources import likelihood_probes
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.membership import area_under_curve_interval
from soul_lightning.protocols import Probe
from soul_lightning.scoring.scorer import Scorer, shared_scores


class MembershipInference(ProbeCallback):
    """The loss attack: the area under the curve that tells forget rows from holdout rows by their mean NLL.

    `membership/loss_auc` is P(a forget row's loss is below a holdout row's): 1 is remembered, 0.5 the ideal, and below
    0.5 the forget rows stand out as unlikely, which gives unlearning away. Its bootstrap interval draws the rows of one
    subject together. Needs probes of the roles `forget` and `holdout`.

    Args:
        name: The metrics' group; two of a kind need different names.
        probes: What to measure on; the DataModule's probes if none are given.
        network: Attribute of the LightningModule that holds the language model, if it is neither `network` nor `model`.
        tokenizer: Folder or name of a tokenizer, or the tokenizer; the DataModule's or the module's if none is given.
        every_n_epochs: Measure at the end of every so many epochs.
        every_n_steps: Measure also every so many optimizer steps.
        before_training: Measure also before the first step.
        limit: Use so many rows of each probe, drawn once by `seed`.
        seed: Seed of that draw and of the bootstrap.
        token_budget: Most tokens in a batch.
        max_tokens: Longer rows are cut on the right.
    """

    def __init__(
        self,
        name: str = "membership",
        probes: list[Probe] | None = None,
        network: str | None = None,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
        before_training: bool = True,
        limit: int | None = None,
        seed: int = 0,
        token_budget: int = 2048,
        max_tokens: int = 512,
    ) -> None:
        super().__init__(name, probes, network, tokenizer, every_n_epochs, every_n_steps, before_training, limit, seed)
        self.token_budget = token_budget
        self.max_tokens = max_tokens
        self._sets: dict[str, list[Probe]] = {}

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the two sets."""
        self._sets = {role: likelihood_probes(self.probes, role) for role in ("forget", "holdout")}
        missing = [role for role, found in self._sets.items() if not found]
        if missing:
            there = ", ".join(sorted({probe.role for probe in self.probes})) or "none"
            raise MisconfigurationError(
                f"MembershipInference needs probes of the roles forget and holdout, and there is none of the role "
                f"{' and '.join(missing)} (roles there are: {there}); give rows that the model never saw as holdout, "
                f"or remove the callback"
            )

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """The area under the curve, with its interval."""
        scorer = Scorer(self.adapter, self.token_budget, self.max_tokens)
        scores, entities = {}, {}
        for role, probes in self._sets.items():
            rows = [(probe, score) for probe in probes for score in shared_scores(trainer, scorer, probe)]
            scores[role] = [score.mean_nll for _, score in rows]
            entities[role] = _entities([(probe, score.index) for probe, score in rows])
        area = area_under_curve_interval(
            scores["forget"],
            scores["holdout"],
            forget_entities=entities["forget"],
            holdout_entities=entities["holdout"],
            seed=self.seed,
        )
        return {"loss_auc": area.value, "loss_auc_low": area.low, "loss_auc_high": area.high}


def _entities(rows: Sequence[tuple[Probe, int]]) -> list[str]:
    """What each row is about; a row without a subject stands for itself."""
    subjects: dict[tuple[str, int], str | None] = {}
    for probe in {id(probe): probe for probe, _ in rows}.values():
        subjects |= {(probe.name, example.index): example.subject for example in probe.examples}
    return [subjects[probe.name, index] or f"{probe.name} {index}" for probe, index in rows]
