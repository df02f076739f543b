"""What a run was made with, as flat plain values by readable names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from soul_lightning.modules.base import StreamModule
from soul_lightning.reports.loggers import Value
from soul_lightning.schedules import ConstantWeight

OPTIMIZER = {"rho": "rho", "weight_decay": "weight decay", "momentum": "momentum"}
"""Settings of an optimizer that are shown beside its rate and betas, by the names that its groups give them."""


def hyperparameters(trainer: Trainer, pl_module: LightningModule) -> dict[str, Value]:
    """Objectives, weights, optimizer, curvature, data, seed: of any Lightning project what it has of them.

    Args:
        trainer: Set up, with its optimizers and its data.
        pl_module: What it trains. Of one that is not of this package, the plain values of its own `hparams` too.

    Returns:
        Numbers and texts; what is not set or not known is left out.
    """
    data = getattr(trainer, "datamodule", None)
    loader = trainer.train_dataloader
    found: dict[str, Any] = {
        "data": type(data).__name__ if data is not None else None,
        "batch size": getattr(data, "batch_size", None) or getattr(loader, "batch_size", None),
        "epochs": trainer.max_epochs if trainer.max_epochs not in (None, -1) else None,
        "steps": trainer.max_steps if trainer.max_steps != -1 else None,
        "seed": int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None,
    }
    found |= _of_module(pl_module) if isinstance(pl_module, StreamModule) else dict(pl_module.hparams)
    for optimizer in trainer.optimizers[:1]:
        found |= {"optimizer": type(optimizer).__name__, **_of_group(optimizer.param_groups[0])}
    return {name: value for name, value in found.items() if isinstance(value, int | float | str)}


def _of_module(module: StreamModule) -> dict[str, Any]:
    found: dict[str, Any] = {"model": module.source.pretrained_model_name_or_path if module.source else None}
    for term in module.terms:
        weight = term.weight(0.0) if isinstance(term.weight, ConstantWeight) else type(term.weight).__name__
        found |= {f"{term.stream} objective": type(term.objective).__name__, f"{term.stream} weight": weight}
        settings = {name: value for name, value in vars(term.objective).items() if name != "unit" and name[0] != "_"}
        found |= {f"{term.stream} {name}": value for name, value in settings.items()}
    if module.curvature is not None:
        interval = module.curvature.interval_steps
        found |= {
            "curvature": type(module.curvature).__name__,
            "curvature interval": interval if isinstance(interval, int) else type(interval).__name__,
            "curvature source": module.curvature.source,
        }
    return found


def _of_group(group: Mapping[str, Any]) -> dict[str, Any]:
    rate = group.get("initial_lr", group.get("lr"))  # a schedule has moved the second
    named = {name: group.get(key) for key, name in OPTIMIZER.items()}
    betas = {f"beta{number}": beta for number, beta in enumerate(group.get("betas", ()), start=1)}
    return {"learning rate": rate, **betas, **named}
