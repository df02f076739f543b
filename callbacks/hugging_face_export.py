"""The trained network as an ordinary Hugging Face folder, out of anybody's project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from transformers import PreTrainedTokenizerBase

from soul_lightning.callbacks.sources import find_network, find_tokenizer, last_metrics
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.model_card import model_card, read_configuration
from soul_lightning.networks.saving import refuse_filled, save_pretrained
from soul_lightning.run_folder import CONFIG_NAME, EXPORT_NAME
from soul_lightning.sharding import has_split_weights, put_together, refuse_foreign


class HuggingFaceExport(Callback):
    """Writes the network of any LightningModule as a folder that `from_pretrained` loads, and never changes training.

    Weights (safetensors), configuration and tokenizer are written when the fit has ended, after whatever other
    callbacks do to the weights at its end, and at the end of every so many epochs. The folder is whole or not there;
    the next export takes the place of the last one, and of nothing else. Nothing is written under `fast_dev_run`. Its
    README.md is a model card: the recipe, where the run has left its config.yaml in its folder, hashes of the data,
    the metrics at that time, and versions.

    The first process writes. Where weights are split over processes (`ModelParallelStrategy`) all of them take part in
    putting them together.

    Args:
        folder: Where to; relative to the logger's folder, or to `trainer.default_root_dir` without a logger.
        every_n_epochs: Export also at the end of every so many epochs; none for the end of the fit alone.
        merge_adapters: Fold LoRA adapters into a copy of the weights. Otherwise the adapters alone are saved.
        network: Attribute of the LightningModule that holds the language model (dots allowed), if it is neither
            `network` nor `model`.
        tokenizer: Folder or name of a tokenizer, or the tokenizer; the DataModule's or the module's if none is given.

    Attributes:
        last_path: The folder, once something was exported.
        last_step: The optimizer step of the last export.

    Raises:
        MisconfigurationError: `every_n_epochs` is below 1.
    """

    def __init__(
        self,
        folder: str = EXPORT_NAME,
        every_n_epochs: int | None = None,
        merge_adapters: bool = True,
        network: str | None = None,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
    ) -> None:
        super().__init__()
        if every_n_epochs is not None and every_n_epochs < 1:
            raise MisconfigurationError(f"HuggingFaceExport: every_n_epochs must be >= 1, got {every_n_epochs}")
        self.folder = folder
        self.every_n_epochs = every_n_epochs
        self.merge_adapters = merge_adapters
        self.last_path: Path | None = None
        self.last_step: int | None = None
        self._network_attribute = network
        self._own_tokenizer = tokenizer
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._claimed: Path | None = None
        self._begins_anew = False
        self._replaces = False

    @property
    def state_key(self) -> str:
        """Keeps the states of two exports apart in a checkpoint."""
        return f"{type(self).__qualname__}[{self.folder}]"

    def begin_anew(self) -> None:
        """Say that what is in the folder was left by this run, which begins once more without a checkpoint."""
        self._begins_anew = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find network and tokenizer, so that what cannot be exported is said before anything is trained.

        Raises:
            MisconfigurationError: One is missing, or the network is none that can be saved.
        """
        kind = type(self).__name__
        network = find_network(kind, pl_module, self._network_attribute)
        if not hasattr(network, "save_pretrained"):
            raise MisconfigurationError(
                f"{kind}: the network of {type(pl_module).__name__} is a {type(network).__name__}, which has no "
                f"save_pretrained; name a Hugging Face model with network=…, or remove the callback"
            )
        if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy):
            raise MisconfigurationError(
                f"{kind}: trainer.strategy {type(trainer.strategy).__name__} splits the weights in a way that is not "
                f"put together here; use ModelParallelStrategy or ddp, or export from a checkpoint"
            )
        if has_split_weights(network):
            refuse_foreign(network)
        self._tokenizer = find_tokenizer(kind, trainer, pl_module, self._own_tokenizer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settle the folder, when an interrupted run has said which one was its own.

        Raises:
            MisconfigurationError: Something else is in it.
        """
        root = trainer.log_dir or trainer.default_root_dir
        folder = (Path(root) / Path(self.folder).expanduser()).absolute()
        # The claim outlives what was exported: a run that is resumed from a checkpoint older than its export owns it.
        self._replaces = self._begins_anew or folder == self._claimed
        if not self._replaces and not _is_trial(trainer):
            refuse_filled(folder)
        self._claimed = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export when an epoch is due."""
        if self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._export(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the final network."""
        self._export(trainer, pl_module)

    def _export(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _is_trial(trainer):
            return
        assert self._claimed is not None and self._tokenizer is not None
        network = find_network(type(self).__name__, pl_module, self._network_attribute)
        whole, card = put_together(network), _card(trainer)  # every process must take part in both
        if trainer.is_global_zero:
            save_pretrained(
                whole,
                self._tokenizer,
                self._claimed,
                merge_adapters=self.merge_adapters,
                replace=self._replaces,
                card=card,
            )
        trainer.strategy.barrier(type(self).__name__)  # nobody looks into the folder before it is there
        self._replaces = True
        self.last_path = self._claimed
        self.last_step = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The last export, and the folder that is this run's own, as plain values."""
        return {
            "last_path": None if self.last_path is None else str(self.last_path),
            "last_step": self.last_step,
            "claimed": None if self._claimed is None else str(self._claimed),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.last_path = Path(state_dict["last_path"]) if state_dict["last_path"] else None
        self.last_step = state_dict["last_step"]
        self._claimed = Path(state_dict["claimed"]) if state_dict["claimed"] else None


def _card(trainer: Trainer) -> str:
    """What can be said of any project's run."""
    config = Path(trainer.default_root_dir) / CONFIG_NAME
    data: Any = getattr(trainer, "datamodule", None)
    hashes = data.data_hashes() if hasattr(data, "data_hashes") else None
    return model_card(read_configuration(config), hashes, last_metrics(trainer))


def _is_trial(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
