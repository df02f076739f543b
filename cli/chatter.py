"""What lightning and torch say on every run and nobody needs to read."""

from __future__ import annotations

import logging
import sys
import warnings

from huggingface_hub.utils.tqdm import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

from soul_lightning.cli.bars import are_drawn
from soul_lightning.cli.terminal import is_first_process, is_quiet, note

_LINES = (
    "Seed set to",
    "GPU available",
    "TPU available",
    "HPU available",
    "💡 Tip",
    "`Trainer.fit` stopped",
    "`Trainer(",
    "Restored all states",
    "Restoring states",
    "Loading `train_dataloader` to estimate",
    "Initializing distributed",
    "-----",  # around the name of the backend
)
_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
)
_WARNINGS = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*exists and is not empty.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*`LightningCLI`'s args parameter.*",
    ".*detected no `val_dataloader`.*",
    ".*defined a `validation_step`.*",
    ".*Total length of `list` across ranks is zero.*",  # no validation loop under fit
    ".*but have no logger configured.*",  # metrics are for those who ask the Trainer, too
    ".*is_gradient_checkpointing.*",  # peft asks for the old name
)


class _Needed(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().lstrip().startswith(_LINES)


_NEEDED = _Needed()


def tame() -> None:
    """Drop the lines above; whatever else lightning says goes the way of our own notes, above a progress bar."""
    notes = _Notes()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_NEEDED)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        # Their handlers hold the stderr of import time and would write into the bar's line.
        logger.handlers = [notes if type(handler) is logging.StreamHandler else handler for handler in logger.handlers]
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for library in ("bitsandbytes", "huggingface_hub"):  # which kernels are not there; every attempt at the hub
        logging.getLogger(library).setLevel(logging.ERROR)
    disable_progress_bar()
    if is_quiet() or not are_drawn():
        disable_progress_bars()  # of downloads: their lines end in no line break
    _show_own(notes)


class _Notes(logging.Handler):
    """Our own lines, each note once: the stages of a `restor` run say the same things about the same data."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write it to stderr."""
        message = record.getMessage()
        if record.levelno < logging.ERROR and not is_first_process():
            return  # which says the same
        if record.levelno >= logging.ERROR and is_quiet():
            print(f"error: {message}", file=sys.stderr)
        elif record.levelno >= logging.WARNING:
            note(f"{record.levelname.lower()}: {message}")
        elif message not in self._said:
            self._said.add(message)
            note(message)


def _show_own(notes: logging.Handler) -> None:
    own = logging.getLogger("soul_lightning")
    if own.handlers or logging.getLogger().handlers:
        return  # the program around us decides
    own.addHandler(notes)
    own.setLevel(logging.INFO)
    own.propagate = False
