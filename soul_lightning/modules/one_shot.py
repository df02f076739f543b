"""What changes a model in one update, computed from whole streams, in place of training."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from functools import partial

from lightning.pytorch.utilities import rank_zero_info
from torch.optim import SGD
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.base import StreamModule
from soul_lightning.modules.losses import evenly_spaced
from soul_lightning.modules.saliency import Saliency
from soul_lightning.modules.terms import Term
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.protocols import Batch, Step, SuppliesStreams


class OneShotModule(StreamModule):
    """Under `fit` the whole update is the first optimizer step, and training ends with its epoch.

    `trainer.max_epochs` has no say in it. Callbacks, checkpoints and export work as they do for a trained model. Under
    DDP every process reads the same rows of `DataModule.stream` and computes the same update: nothing is communicated,
    and nothing gained.

    Args:
        network: Where the model comes from, or the model itself.
        terms: The streams that are read, with the loss of each.
        micro_batches: Passes that each batch is cut into: less memory.
        saliency: Moves a part of the weights only.
        tokenizer: The tokenizer of a `network` given as a model.
    """

    needs_whole_weights = True

    def __init__(
        self,
        network: PretrainedNetwork | PreTrainedModel,
        terms: Iterable[Term],
        micro_batches: int,
        saliency: Saliency | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__(
            network=network,
            terms=terms,
            optimizer=partial(SGD, lr=1.0),  # whose step from the gradient −Δ is Δ
            lr_scheduler=None,
            curvature=None,
            micro_batches=micro_batches,
            max_grad_norm=None,
            max_skipped_steps=0,
            saliency=saliency,
            tokenizer=tokenizer,
        )

    @property
    def total_steps(self) -> int:
        """One."""
        return 1

    @abstractmethod
    def leave_update(self) -> tuple[str, dict[str, float]]:
        """Leave −Δ in every `.grad` that is to move, Δ the update.

        Returns:
            What was done, for the terminal, and metrics by their logger names.
        """

    def training_step(self, step: Step, batch_idx: int) -> None:
        """Compute the update from the whole streams and take it; `step`'s own rows are not looked at."""
        self.trainer.should_stop = True
        if self.global_step > 0:  # trainer.min_epochs, or a resume
            return
        started = time.perf_counter()
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        said, metrics = self.leave_update()
        optimizer.step()
        self.zero_gradients()
        seconds = time.perf_counter() - started
        rank_zero_info(f"{said}, {seconds:.0f} s")
        self.log_dict(metrics | {"train/seconds": seconds, "step": float(self.global_step)})

    def read(self, stream: str, most: int | None = None) -> tuple[list[Batch], float]:
        """A stream's rows in micro-batches.

        Args:
            stream: Its name.
            most: Read so many of its batches, evenly spaced; all if none is given.

        Returns:
            What is read, and for how many times its labelled tokens that stands.

        Raises:
            MisconfigurationError: There is no such DataModule.
        """
        supplier = getattr(self.trainer, "datamodule", None)
        if not isinstance(supplier, SuppliesStreams):
            raise MisconfigurationError(
                f"{type(self).__name__} reads whole streams, and {type(supplier).__name__} has no stream(); use a "
                f"DataModule of this package"
            )
        batches = list(supplier.stream(stream))
        chosen = batches if most is None else evenly_spaced(batches, most)
        every, read = (sum(batch.labelled_tokens for batch in some) for some in (batches, chosen))
        return [part for batch in chosen for part in batch.split(self.micro_batches)], every / max(1, read)
