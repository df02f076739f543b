"""What a fit says before its first step: the model, what trains, the rows, the steps, the memory, where things go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from soul_lightning.callbacks.memory_estimate import PARTS, MemoryEstimator, available_bytes, mebibytes
from soul_lightning.cli.log_places import log_places
from soul_lightning.cli.panels import show_panel
from soul_lightning.cli.progress import total_steps
from soul_lightning.cli.terminal import emit, error_console
from soul_lightning.memory import MemoryEstimate
from soul_lightning.protocols import StreamSize, SuppliesSizes


class RunStart(Callback):
    """Shows a panel when training starts, and tells the same as the event `start`.

    Args:
        recipe: What the run is called by.
        estimator: Has estimated the memory before.
        shows: Show the panel; the event is written wherever events are asked for.
    """

    def __init__(self, recipe: str, estimator: MemoryEstimator, shows: bool) -> None:
        super().__init__()
        self._recipe = recipe
        self._estimator = estimator
        self._shows = shows

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say it, on the first process."""
        if not trainer.is_global_zero:
            return
        facts = run_facts(trainer, pl_module, self._estimator.estimate)
        emit("start", command="fit", recipe=self._recipe, **facts)
        if self._shows:
            lines = _lines(facts, self._estimator.estimate, available_bytes(pl_module.device), pl_module)
            places = {"run": facts["run"], "curves": facts["logs"][0] if facts["logs"] else "no logger"}
            show_panel(error_console(), self._recipe, lines | places, whole=tuple(places))


def run_facts(trainer: Trainer, module: LightningModule, estimate: MemoryEstimate | None) -> dict[str, Any]:
    """What is known of a run before its first step, as plain values.

    Args:
        trainer: At the start of training.
        module: What it trains.
        estimate: Of its memory, where there is one.
    """
    data = getattr(trainer, "datamodule", None)
    sizes: Mapping[str, StreamSize] = data.stream_sizes() if isinstance(data, SuppliesSizes) else {}
    objectives = {term.stream: type(term.objective).__name__ for term in getattr(module, "terms", ())}
    optimizer = trainer.optimizers[0]
    rate = optimizer.param_groups[0]
    return {
        "run": trainer.default_root_dir,
        "model": getattr(getattr(module, "source", None), "pretrained_model_name_or_path", None),
        "network": type(getattr(module, "network", module)).__name__,
        "parameters": _weights(module, trained=False),
        "trained_parameters": _weights(module, trained=True),
        "precision": str(trainer.precision),
        "device": module.device.type,
        "processes": trainer.world_size,
        "streams": {
            name: {
                "rows": size.rows,
                "tokens": size.tokens,
                "labelled_tokens": size.labelled_tokens,
                "objective": objectives.get(name),
            }
            for name, size in sizes.items()
        },
        "rows_per_step": getattr(data, "batch_size", None),
        "optimizer": type(optimizer).__name__,
        "learning_rate": rate.get("initial_lr", rate["lr"]),
        "steps": total_steps(trainer),
        "epochs": trainer.max_epochs,
        "first_step": trainer.global_step,
        "memory_bytes": estimate.total if estimate is not None else None,
        "logs": log_places(trainer),
    }


def _lines(
    facts: Mapping[str, Any], estimate: MemoryEstimate | None, available: int, module: LightningModule
) -> dict[str, str]:
    trained, parameters = facts["trained_parameters"], facts["parameters"]
    share = "all" if trained == parameters else f"{trained:,} ({100 * trained / parameters:.2g} %) of"
    device = facts["device"] + (f" × {facts['processes']}" if facts["processes"] > 1 else "")
    lines = {
        "model": f"{facts['model'] or type(module).__name__} ({facts['network']})",
        "trains": f"{share} {parameters:,} parameters, {facts['precision']} on {device}",
    }
    for name, stream in facts["streams"].items():
        size = "streamed"
        if stream["rows"] is not None:
            size = f"{stream['rows']:,} rows, {stream['tokens']:,} tokens, {stream['labelled_tokens']:,} labelled"
        lines[name] = size + (f": {stream['objective']}" if stream["objective"] else "")
    lines["steps"] = _steps(facts)
    if estimate is not None:
        lines["memory"] = _memory(estimate, available, facts["device"])
    return lines


def _steps(facts: Mapping[str, Any]) -> str:
    steps = f"{facts['steps']:,}" if facts["steps"] is not None else "without an end"
    epochs = facts["epochs"] or 0
    passes = f" in {epochs} epoch{'s' if epochs > 1 else ''}" if epochs > 0 else ""
    begun = f" from step {facts['first_step']:,}" if facts["first_step"] else ""
    rows = f" of {facts['rows_per_step']} rows a stream" if facts["rows_per_step"] else ""
    each = " on each process" if rows and facts["processes"] > 1 else ""
    return f"{steps}{passes}{begun}{rows}{each}, {facts['optimizer']} at {facts['learning_rate']:g}"


def _memory(estimate: MemoryEstimate, available: int, device: str) -> str:
    parts = ", ".join(f"{name} {getattr(estimate, part) / 2**20:,.0f}" for part, name in PARTS.items())
    size = estimate.size
    return (
        f"about {mebibytes(estimate.total)} at once ({parts}); {device} has {mebibytes(available)} left; longest pass: "
        f"{size.rows} rows of up to {size.tokens:,} tokens, {size.labelled:,} labelled"
    )


def _weights(module: nn.Module, trained: bool) -> int:
    """How many weights there are; of those that are packed into fewer bytes, what they stand for."""
    shapes = (
        getattr(getattr(parameter, "quant_state", None), "shape", parameter.shape)
        for parameter in module.parameters()
        if parameter.requires_grad or not trained
    )
    return sum(math.prod(shape) for shape in shapes)
