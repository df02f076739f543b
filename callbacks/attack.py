"""What the callbacks share that attack a model: what must be gone, how it is asked for, and that the model stays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from soul_lightning.attacks.copies import left_alone
from soul_lightning.attacks.forgotten import forgotten_probes
from soul_lightning.attacks.knowledge import Asking
from soul_lightning.callbacks.base import Metrics
from soul_lightning.callbacks.scoring import REFERENCE, ScoringCallback
from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.protocols import Probe
from soul_lightning.reports.findings import CONFIDENCE, Finding
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel

ABOVE_GUESSING, ABOVE_REFERENCE = "above guessing", "above a model that never saw it"
"""What an attack's success is compared with, in the words of a finding."""


class AttackCallback(ScoringCallback):
    """Tries to get out of a model what it must no longer know, and leaves the model as it is.

    It runs at the end of a fit and under `Trainer.validate` and `Trainer.test`; `every_n_epochs` and `before_training`
    ask for more. What must be gone is found by `soul_lightning.attacks.forgotten.forgotten_probes`. Other models, above
    all the `reference`, are attacked in the same way. The weights are hashed before and after.

    A subclass says what the attack is and gets, in `attack`, what follows from its rows, in `summarize`, and what
    that means, in `findings`.

    Args:
        name: The metrics' group; two of a kind need different names.
        reference: The model that never saw what is forgotten: a Hugging Face folder, or a rows file that this callback
            wrote when it attacked it. The same as `models: {retain-only: …}`.
        asking: How the model is asked.
        confidence: Of the intervals.
        every_n_epochs: Attack at the end of every so many epochs too; none for the end of the fit only.
        before_training: Attack before the first step too.
        **settings: See `ScoringCallback`.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    def __init__(
        self,
        name: str,
        reference: str | None = None,
        asking: Asking | None = None,
        confidence: float = CONFIDENCE,
        every_n_epochs: int | None = None,
        before_training: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(name, every_n_epochs=every_n_epochs, before_training=before_training, **settings)
        self.add_reference(reference)
        self.asking = asking or Asking()
        self.confidence = confidence
        self.all_probes: list[Probe] = []

    @abstractmethod
    def attack(self, model: ScoredModel) -> list[MeasuredRow]:
        """Attack a model, and say what was had of each row of `self.probes`."""

    def select(self, probes: Sequence[Probe]) -> list[Probe]:
        """What must be gone; all probes are kept in `all_probes`."""
        self.all_probes = list(probes)
        return forgotten_probes(probes, type(self).__name__)

    def score(self, model: ScoredModel) -> list[MeasuredRow]:
        """Attack, and see that the weights are the same afterwards."""
        with left_alone(model.adapter.network):
            return self.attack(model)

    def row_settings(self) -> dict[str, object]:
        """Answers depend on how they are asked for."""
        return super().row_settings() | {"asking": self.asking}

    def current(self) -> list[MeasuredRow]:
        """The rows of the model that was attacked last."""
        return self.measured.get(self._current, [])

    def compared(
        self,
        value: str,
        baseline: str | None = None,
        confidence: float | None = None,
        rows: Sequence[MeasuredRow] | None = None,
    ) -> dict[str, Interval]:
        """The mean of a measured value above what a model that never knew would have, paired by row.

        A reference that happens to guess less is no proof, nor is one that loses what it guessed right: an attack has
        something only where it is above both.

        Args:
            value: Name of the value (1 for a right answer).
            baseline: Name of what guessing has on the same row; none for 0.
            confidence: Of the intervals; the callback's own if none is given.
            rows: The rows; those of the model that was attacked last if none are given.

        Returns:
            The mean difference to `baseline` as `ABOVE_GUESSING` and, where there is a reference, which is not compared
            with itself, that to its rows as `ABOVE_REFERENCE`; without those for which there are no rows.
        """
        rows = self.current() if rows is None else rows
        reference = self.measured.get(REFERENCE)
        bases = {ABOVE_GUESSING: {row.key: row.values.get(baseline) if baseline else 0.0 for row in rows}}
        if reference is not None and rows is not reference:
            bases[ABOVE_REFERENCE] = {row.key: row.values.get(value) for row in reference}
        found = {}
        for name, base in bases.items():
            both = [(row, row.values.get(value), base.get(row.key)) for row in rows]
            paired = [
                (row, float(own) - float(other)) for row, own, other in both if own is not None and other is not None
            ]
            if paired:
                found[name] = mean_interval(
                    [difference for _, difference in paired],
                    [row.entity for row, _ in paired],
                    confidence=confidence or self.confidence,
                    seed=self.seed,
                )
        return found

    @abstractmethod
    def summarize(self, rows: Sequence[MeasuredRow], others: Mapping[str, Sequence[MeasuredRow]]) -> Metrics:
        """The metrics of a model."""

    @abstractmethod
    def findings(self) -> list[Finding]:
        """What the attack says to the questions of an audit."""
