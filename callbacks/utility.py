"""Utility at epoch ends: what the model must keep, and what unlearning costs of it."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from transformers import PreTrainedTokenizerBase

from soul_lightning.callbacks.base import Metrics, ProbeCallback
from soul_lightning.callbacks.sources import likelihood_probes
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.likelihood import perplexity, sequence_probability
from soul_lightning.protocols import Probe
from soul_lightning.scoring.scorer import Scorer, shared_scores


class Utility(ProbeCallback):
    """Probability and perplexity of what is retained, and perplexity of held-out text, each also relative to before.

    For each probe of the role `retain` there are `utility/NAME_probability` (mean exp(−NLL/|y|)) and
    `utility/NAME_perplexity`; for each of the role `utility` (held-out text) the perplexity. The same names with
    `_relative` divide by the value before training: 1 is unchanged.

    Args:
        name: The metrics' group; two of a kind need different names.
        probes: What to measure on; the DataModule's probes if none are given.
        network: Attribute of the LightningModule that holds the language model, if it is neither `network` nor `model`.
        tokenizer: Folder or name of a tokenizer, or the tokenizer; the DataModule's or the module's if none is given.
        every_n_epochs: Measure at the end of every so many epochs.
        every_n_steps: Measure also every so many optimizer steps.
        before_training: Log also before the first step; measured then in any case, for the relative values.
        limit: Use so many rows of each probe, drawn once by `seed`.
        seed: Seed of that draw.
        token_budget: Most tokens in a batch.
        max_tokens: Longer rows are cut on the right.
    """

    def __init__(
        self,
        name: str = "utility",
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
        self._retain: list[Probe] = []
        self._held_out: list[Probe] = []
        self._before: dict[str, float] = {}

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the sets."""
        self._retain = likelihood_probes(self.probes, "retain")
        self._held_out = likelihood_probes(self.probes, "utility")
        if not self._retain and not self._held_out:
            there = ", ".join(sorted({probe.role for probe in self.probes})) or "none"
            raise MisconfigurationError(
                f"Utility needs a probe of the role retain or utility (roles there are: {there}); give one, or remove "
                f"the callback"
            )

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the values before training; a resumed run has them from its checkpoint."""
        if trainer.global_step == 0:
            self._before = self._levels(trainer)
        elif not self._before:
            rank_zero_warn(
                f"Utility: the checkpoint at step {trainer.global_step} holds no values from before training, so "
                f"there are no relative ones"
            )

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        """Every level, and its ratio to the one before training."""
        levels = self._levels(trainer)
        ratios = {
            f"{name}_relative": _ratio(value, self._before[name])
            for name, value in levels.items()
            if name in self._before
        }
        return {**levels, **ratios}

    def _levels(self, trainer: Trainer) -> dict[str, float]:
        scorer = Scorer(self.adapter, self.token_budget, self.max_tokens)
        levels = {}
        for probe in [*self._retain, *self._held_out]:
            scores = shared_scores(trainer, scorer, probe)
            nlls, tokens = [score.nll for score in scores], [score.tokens for score in scores]
            if probe.role == "retain":
                levels[f"{probe.name}_probability"] = sequence_probability(nlls, tokens)
            levels[f"{probe.name}_perplexity"] = perplexity(nlls, tokens)
        return levels

    def state_dict(self) -> dict[str, Any]:
        """The values before training too, so that a resumed run compares with the same ones."""
        return super().state_dict() | {"before": dict(self._before)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._before = dict(state_dict.get("before", {}))


def _ratio(value: float, before: float) -> float | None:
    """`value` / `before`, or none where it has no meaning."""
    return value / before if before > 0 and math.isfinite(before) else None
