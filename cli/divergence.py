"""What a run that diverged leaves: the last good weights, and a summary that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from soul_lightning.callbacks import DivergenceGuard
from soul_lightning.checkpoint_io import read_checkpoint
from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.sharding import SumOverWeights, here


def stopped_by_guard(trainer: Trainer) -> TrainingDivergedError | None:
    """Why a `DivergenceGuard` has ended the run; none where none has."""
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, DivergenceGuard) and callback.diverged_at_step is not None:
            kept = f"; the model has the weights of step {callback.kept_step}"
            return TrainingDivergedError(f"{callback.reason}{kept}", callback.diverged_at_step)
    return None


def record(diverged: TrainingDivergedError) -> dict[str, Any]:
    """What the summary says of it."""
    return {"diverged": str(diverged), "diverged_at_step": diverged.step}


def remarks(diverged: TrainingDivergedError | None) -> str:
    """What the model card says of it."""
    if diverged is None:
        return ""
    return (
        f"The run diverged at optimizer step {diverged.step} and was stopped ({diverged}). These are its last good "
        f"weights; the metrics below may have been measured after them."
    )


def is_finite(network: nn.Module) -> bool:
    """Whether every weight is: one step that was finite itself may still have been too far."""
    others = SumOverWeights(1)
    for parameter in network.parameters():
        others.add(parameter, here(parameter.detach()).isfinite().logical_not().sum())
    return others.total()[0] == 0


def with_place(
    diverged: TrainingDivergedError, folder: Path, export: Path | None, finite: bool
) -> TrainingDivergedError:
    """The same error, which says where the last good weights are.

    Args:
        diverged: What happened.
        folder: The run folder.
        export: The exported model, if there is one.
        finite: Whether the weights of the model are.
    """
    checkpoint = None if finite else _last_finite(folder)
    if export is not None:
        place = f"the last good weights are in {export}"
    elif finite:
        place = f"nothing was exported, as asked for; the run is in {folder}"
    elif checkpoint is not None:
        place = f"the weights are not finite and were not exported; the last that are stand in {checkpoint}"
    else:
        place = "the weights are not finite and were not exported, and no checkpoint has others"
    message = f"the run diverged at optimizer step {diverged.step}: {diverged}; {place}"
    return TrainingDivergedError(message, diverged.step)


def _last_finite(folder: Path) -> Path | None:
    """The newest checkpoint of a run whose weights are finite."""
    for path in sorted(folder.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            weights = read_checkpoint(path, mmap=True)["state_dict"]
        except MisconfigurationError:  # damaged, or somebody else's
            continue
        if all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
            return path
    return None
