"""Task vectors: learn the forget text, then walk the other way."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.base import StreamModule, default_optimizer
from soul_lightning.modules.saliency import Saliency
from soul_lightning.modules.terms import Term
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.reference import trained_adapter
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Step
from soul_lightning.schedules import LearningRateSchedule, as_schedule


class TaskVectorModule(StreamModule):
    """Negates a task vector: θ = c − α (θ* − c), θ* being c fine-tuned on the forget stream (Ilharco et al. 2023).

    A run of `trainer.max_epochs` epochs fine-tunes in all but the last `len(alphas)` of them. Each of those sets the
    weights for one α and trains nothing, so that callbacks measure it at the epoch's end: a sweep over α in one run.
    Such an epoch counts as one optimizer step (the loggers' axis). The model that is left and exported is that of the
    *last* α: put the one that you want last.

    LoRA adapters are sums of products B A, which are not linear in A and B together. A stays at θ* and B, which starts
    from 0, is scaled: the same as scaling the product.

    c and θ* − c are kept on the CPU, and stand in every checkpoint, as far as they train: twice those weights.

    Args:
        network: Where the model comes from, or the model itself.
        alphas: One α an epoch, for the last epochs of the run; 0 is c, −1 is θ*.
        optimizer: Any optimizer, by class path; fused `AdamW` with its own defaults if none is given.
        lr_scheduler: Warm-up and decay of the learning rate over the fine-tuning steps; constant if none is given.
        micro_batches: Backward passes that the forget stream's batch is cut into.
        max_grad_norm: Gradients are scaled down to this L2 norm.
        max_skipped_steps: So many non-finite steps in a row are skipped before the run stops.
        saliency: Fine-tunes a part of the weights only; θ* − c is 0 elsewhere.
        tokenizer: The tokenizer of a `network` given as a model.

    Raises:
        MisconfigurationError: There is no α.
    """

    needs_whole_weights = True

    def __init__(
        self,
        network: PretrainedNetwork | PreTrainedModel,
        alphas: list[float] | None = None,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LearningRateSchedule | None = None,
        micro_batches: int = 1,
        max_grad_norm: float | None = 1.0,
        max_skipped_steps: int = 5,
        saliency: Saliency | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        if alphas is not None and not alphas:
            raise MisconfigurationError("TaskVectorModule: alphas is empty; name at least one, as in [0.5, 1.0]")
        super().__init__(
            network=network,
            terms=[Term("forget", CrossEntropy(), as_schedule(1.0))],
            optimizer=optimizer or default_optimizer,
            lr_scheduler=lr_scheduler,
            curvature=None,
            micro_batches=micro_batches,
            max_grad_norm=max_grad_norm,
            max_skipped_steps=max_skipped_steps,
            saliency=saliency,
            tokenizer=tokenizer,
        )
        self.alphas = [1.0] if alphas is None else alphas
        # Neither is a submodule or a buffer: both stay on the CPU, and out of the state dict.
        self._initial: list[Tensor] = []
        self._difference: list[Tensor] = []
        self._stored_finetuning_epochs: int | None = None

    @property
    def finetuning_epochs(self) -> int:
        """Epochs before the sweep over α.

        Raises:
            MisconfigurationError: None is left, or the run is not counted in epochs.
        """
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0 or self.trainer.max_steps != -1:
            raise MisconfigurationError(
                f"TaskVectorModule counts in epochs, got trainer.max_epochs={epochs} and "
                f"max_steps={self.trainer.max_steps}; set trainer.max_epochs alone"
            )
        if epochs <= len(self.alphas):
            raise MisconfigurationError(
                f"TaskVectorModule: trainer.max_epochs={epochs} leaves no epoch to fine-tune before the "
                f"{len(self.alphas)} of alphas; raise it to {len(self.alphas) + 1} or more"
            )
        return epochs - len(self.alphas)

    @property
    def scheduled_steps(self) -> int:
        """Optimizer steps of the fine-tuning."""
        epochs = self.finetuning_epochs
        return super().total_steps * epochs // (epochs + len(self.alphas))

    @property
    def total_steps(self) -> int:
        """Those, and one for each of `alphas`."""
        return self.scheduled_steps + len(self.alphas)

    def setup(self, stage: str) -> None:
        """Refuse a Trainer without room for both parts."""
        super().setup(stage)
        if stage == "fit":
            _ = self.finetuning_epochs

    def on_train_start(self) -> None:
        """Keep c, or go on with that of an interrupted run.

        Raises:
            MisconfigurationError: A checkpoint holds none, or would be gone on with in another order; or an adapter
                has been trained before.
        """
        super().on_train_start()
        stored = self._stored_finetuning_epochs
        if not self._initial:
            if self.global_step > 0:
                raise MisconfigurationError(
                    f"the checkpoint at step {self.global_step} holds no model before fine-tuning; go on from one of a "
                    f"run with TaskVectorModule, or train from the first step"
                )
            self._initial = self._weights()
            self._refuse_trained_adapters()
        if self._difference and stored is not None and stored != self.finetuning_epochs:
            raise MisconfigurationError(
                f"the checkpoint's fine-tuning ended after {stored} epochs, and max_epochs={self.trainer.max_epochs} "
                f"with {len(self.alphas)} alphas asks for {self.finetuning_epochs}; change both by the same number"
            )

    def _refuse_trained_adapters(self) -> None:
        name = trained_adapter(self.network)
        if name is not None:
            raise MisconfigurationError(
                f"TaskVectorModule scales LoRA products from 0, and {name} starts elsewhere; merge the adapter "
                f"into the model first (network.adapter)"
            )

    def training_step(self, step: Step, batch_idx: int) -> None:
        """An optimizer step on forget; in the last epochs one change of α, and then nothing more."""
        place = self.current_epoch - self.finetuning_epochs
        if place < 0:
            super().training_step(step, batch_idx)
        elif batch_idx == 0:
            self._take_empty_step()
            self.negate(self.alphas[place])
            self.log_dict({"train/alpha": self.alphas[place], "step": float(self.global_step)})

    def _take_empty_step(self) -> None:
        """Without a gradient no weight moves, yet `global_step` does."""
        self.zero_gradients()
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.step()

    @torch.no_grad()
    def negate(self, alpha: float) -> None:
        """Set the weights to c − α (θ* − c); the first call takes them for θ*.

        Args:
            alpha: α.
        """
        if not self._difference:
            pairs = zip(self._weights(), self._initial, strict=True)
            self._difference = [tuned.sub_(initial) for tuned, initial in pairs]
        named = ((name, weight) for name, weight in self.network.named_parameters() if weight.requires_grad)
        for (name, weight), initial, difference in zip(named, self._initial, self._difference, strict=True):
            if "lora_A" not in name:
                weight.copy_(initial.sub(difference, alpha=alpha))

    def _weights(self) -> list[Tensor]:
        """A copy on the CPU of what trains."""
        return [parameter.detach().to("cpu", copy=True) for parameter in self.trainable_parameters()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep c, and θ* − c once it is known."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["soul_lightning"]["task_vector"] = {
            "initial": self._initial,
            "difference": self._difference,
            "finetuning_epochs": self.finetuning_epochs,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get("soul_lightning", {}).get("task_vector", {})
        self._initial = [value.cpu() for value in stored.get("initial", [])]
        self._difference = [value.cpu() for value in stored.get("difference", [])]
        self._stored_finetuning_epochs = stored.get("finetuning_epochs")
