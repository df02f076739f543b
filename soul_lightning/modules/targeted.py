"""Targeted unlearning: forget only the rows that a wrong answer rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from transformers import PreTrainedModel

from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.losses import evenly_spaced
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.networks.predictions import Predictions
from soul_lightning.optim.curvature import GaussNewtonBartlett
from soul_lightning.optim.inverse_hessian import LossSum
from soul_lightning.optim.row_influence import row_influences
from soul_lightning.protocols import Batch, Probe, Step, SuppliesProbes, SuppliesStreams

PROBE_ROWS, PROBE_TOKENS = 16, 1024
"""Rows of the probe in one pass, and where they are cut."""


@dataclass(frozen=True)
class Targeting:
    """Which forget rows are forgotten.

    Attributes:
        share: Keep this share of the forget rows, those with the largest influence; at least one.
        probe: Name of the probe whose wrong answers are to go. Of a probe of the role `corrupted` these are the false
            answers of its rows, of any other its answers.
        damping: λ as a share of the mean Gauss-Newton diagonal of the retain losses.
        retain_batches: Read so many of the retain stream's batches, evenly spaced, for that diagonal.
        seed: Seed of its sampled labels.

    Raises:
        MisconfigurationError: A setting is out of range.
    """

    share: float = 0.3
    probe: str = "corrupted"
    damping: float = 0.1
    retain_batches: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse shares and numbers that choose nothing."""
        if not 0 < self.share <= 1 or not self.damping > 0 or self.retain_batches < 1:
            raise MisconfigurationError(
                f"targeting: share must lie in (0, 1], damping be above 0 and retain_batches >= 1, got {self.share}, "
                f"{self.damping} and {self.retain_batches}"
            )


class TargetedUnlearningModule(UnlearningModule):
    """Unlearns the forget rows with the most influence on the wrong answers, and leaves the other forget rows out.

    Before the first step each row of the forget stream is scored with `row_influences`: how much it supports the wrong
    answers of a probe, by the model as it is loaded. The rows below the share are left out of every step; a step whose
    batch has none of the others trains on retain alone. Epochs, and so the number of steps, stay as they were.

    The loss of a wrong answer is the steepest where the model hardly gives it, so that rows about lies that are little
    believed stand high, and a small share leaves whole facts out: measure it against a run on all rows.

    Every process scores all rows: a pass over the probe, two over retain, and one backward pass for each forget row. A
    saliency mask, where there is one, is still found on all of them. In YAML:

    ```yaml
    model:
      class_path: TargetedUnlearningModule
      init_args:
        targeting: {share: 0.3, probe: corrupted}
        forget: {class_path: NPO}
    ```

    Args:
        network: Where the model comes from, or the model itself.
        targeting: Which rows are forgotten; the 30 % with the most influence on the probe `corrupted` if none is given.
        **options: Settings of `UnlearningModule`; a forget objective among them.

    Attributes:
        influences: The score of each forget row, by its index; empty before training, and after a resume.

    Raises:
        MisconfigurationError: A setting is out of range, or there is no forget objective.
    """

    needs_whole_weights = True

    def __init__(
        self, network: PretrainedNetwork | PreTrainedModel, targeting: Targeting | None = None, **options: Any
    ) -> None:
        super().__init__(network, **options)
        if all(term.stream != "forget" for term in self.terms):
            raise MisconfigurationError(
                "TargetedUnlearningModule chooses forget rows, and there is no forget objective; give one"
            )
        self.targeting = targeting or Targeting()
        self.influences: dict[int, float] = {}
        self._sampler = GaussNewtonBartlett(seed=self.targeting.seed)
        self._kept = torch.zeros(0, dtype=torch.int64)
        self._stored: Tensor | None = None

    def on_train_start(self) -> None:
        """Choose the rows before the first step, or take back the choice of an interrupted run.

        Raises:
            MisconfigurationError: A checkpoint holds no choice, or what is to be read is not there.
        """
        super().on_train_start()
        self.influences = {}
        if self._stored is not None:
            self._kept, self._stored = self._stored.to(self.device), None
        elif self.global_step > 0:
            raise MisconfigurationError(
                f"the checkpoint at step {self.global_step} holds no choice of forget rows; go on from one of a run "
                f"with TargetedUnlearningModule, or train from the first step"
            )
        else:
            self._kept = self._chosen()

    def training_step(self, step: Step, batch_idx: int) -> None:
        """An optimizer step on the chosen rows of the forget batch."""
        batch = step.batches.get("forget")
        if batch is not None:
            places = torch.isin(batch.index, self._kept).nonzero()[:, 0]
            chosen = batch.rows(places) if len(places) else batch.rows(places.new_zeros(1)).without_labels()
            step = replace(step, batches={**step.batches, "forget": chosen})
        super().training_step(step, batch_idx)

    def _chosen(self) -> Tensor:
        """[rows] the index of each forget row that is kept."""
        data = getattr(self.trainer, "datamodule", None)
        if not (isinstance(data, SuppliesStreams) and isinstance(data, SuppliesProbes)):
            raise MisconfigurationError(
                f"TargetedUnlearningModule reads whole streams and a probe, and {type(data).__name__} does not give "
                f"both; use a DataModule of this package"
            )
        asked = self._wrong_answers(data.probes())
        read = evenly_spaced(list(data.stream("retain")), self.targeting.retain_batches)
        retain = [part for batch in read for part in batch.split(self.micro_batches)]
        rows = [row for batch in data.stream("forget") for row in batch.split(len(batch))]
        parameters = self.trainable_parameters()
        with evaluation_mode(self.network), self.trainer.precision_plugin.forward_context():
            influences = row_influences(
                LossSum([partial(self._loss, batch) for batch in asked], parameters),
                LossSum([], parameters, [partial(self._sampled_loss, batch) for batch in retain]),
                (partial(self._loss, row) for row in rows),
                parameters,
                self.targeting.damping,
            )
        index = torch.cat([row.index for row in rows]).to(self.device)
        kept = index[influences.topk(max(1, round(self.targeting.share * len(index)))).indices]
        self.influences = dict(zip(index.tolist(), influences.tolist(), strict=True))
        least = self.influences[int(kept[-1])]
        rank_zero_info(
            f"targeted: {len(kept)} of {len(index)} forget rows, those with an influence of {least:.3g} or more on the "
            f"wrong answers of the probe {self.targeting.probe}"
        )
        return kept

    def _wrong_answers(self, probes: Sequence[Probe]) -> list[Batch]:
        probe = next((probe for probe in probes if probe.name == self.targeting.probe), None)
        if probe is None:
            raise MisconfigurationError(
                f"targeting.probe={self.targeting.probe!r} is none of the DataModule's probes, "
                f"{', '.join(probe.name for probe in probes)}; name one of them"
            )
        if probe.role == "corrupted":
            wrong = [replace(row, answer=answer) for row in probe.examples for answer in row.perturbed]
        else:
            wrong = list(probe.examples)
        if not wrong:
            raise MisconfigurationError(
                f"the rows of the probe {probe.name} bring no false answers, so that no row can have influence on "
                f"them; name another probe in targeting.probe"
            )
        encoded = encode(wrong, self.tokenizer, probe.template, PROBE_TOKENS)
        starts = range(0, len(encoded), PROBE_ROWS)
        return [collate(encoded[start : start + PROBE_ROWS], pad_token_id=0) for start in starts]

    def _loss(self, batch: Batch) -> Tensor:
        """The summed NLL of the answers, whatever the objectives are."""
        predictions: Predictions = self(batch.to(self.device).seen_as(("answer",)))
        return -predictions.log_probs.sum()

    def _sampled_loss(self, batch: Batch, draw: int) -> Tensor:
        there = batch.to(self.device).seen_as(("answer",))
        predictions: Predictions = self(there)
        return self._sampler.surrogate(predictions, there.index, draw)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the choice, for the model that it was made by has moved."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["soul_lightning"]["targeted"] = self._kept.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        super().on_load_checkpoint(checkpoint)
        self._stored = checkpoint.get("soul_lightning", {}).get("targeted")
