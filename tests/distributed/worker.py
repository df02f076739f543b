"""One process of a run: `python -m tests.distributed.worker STRATEGY RANK SIZE FOLDER`, the rest in the environment.

Writes of each scenario what every optimizer step saw, and what the run came to, whole, from the first process.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor
from torch.optim import Optimizer

from soul_lightning.datamodules.task import Task
from soul_lightning.modules.base import StreamModule
from soul_lightning.sharding import whole
from tests.conftest import TinyDataModule, make_tokenizer, make_trainer
from tests.distributed.scenarios import DROPS_OUT, SCENARIOS, Scenario

EPOCHS = 3


class FiveRows(TinyDataModule):
    """Forget rows that neither two nor four divide."""

    def load(self) -> Task:
        task = super().load()
        return replace(task, streams={**task.streams, "forget": task.streams["forget"][:5]})


class Recorder(Callback):
    """Keeps losses and gradients of every step, and the state at the end; every process must take part."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        assert isinstance(pl_module, StreamModule)
        for name, parameter in pl_module.network.named_parameters():
            if parameter.grad is not None:
                self.found[f"step {trainer.global_step} gradient {name}"] = whole(parameter.grad).clone()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for name, value in trainer.callback_metrics.items():
            if name.startswith(("train/", "curvature/")) and "seconds" not in name and "time" not in name:
                self.found[f"step {trainer.global_step} {name}"] = torch.as_tensor(value)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, StreamModule)
        pl_module.trainable_parameters()  # FSDP2 may have left some whole
        for name, parameter in pl_module.network.named_parameters():
            self.found[f"end weight {name}"] = whole(parameter.detach()).clone()
            for key, value in trainer.optimizers[0].state.get(parameter, {}).items():
                self.found[f"end {key} {name}"] = whole(torch.as_tensor(value)).clone()
        for name, value in trainer.callback_metrics.items():
            if not name.startswith(("train/", "curvature/")):
                self.found[f"end metric {name}"] = torch.as_tensor(value)


def strategy_settings(scenario: Scenario, strategy: str, size: int) -> dict[str, Any]:
    """What the Trainer is given."""
    if strategy == "one":
        return {}
    split = ModelParallelStrategy(size, 1, save_distributed_checkpoint=False)
    return {
        "strategy": split if strategy == "fsdp2" else scenario.ddp,
        "devices": size,
        "plugins": [LightningEnvironment()],
    }


class StopAt(Callback):
    """Saves in the middle of an epoch, and ends the run there."""

    def __init__(self, step: int, path: Path) -> None:
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise InterruptedError("as by a signal")


def run(
    scenario: Scenario,
    strategy: str,
    size: int,
    folder: Path,
    stop: StopAt | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Tensor]:
    """Train, and return what was recorded."""
    seed_everything(0, verbose=False)
    tokenizer, recorder = make_tokenizer(), Recorder()
    trainer = make_trainer(
        folder,
        max_epochs=EPOCHS,
        logger=False,
        callbacks=[*scenario.callbacks(), recorder, *([stop] if stop is not None else [])],
        **strategy_settings(scenario, strategy, size),
    )
    trainer.fit(
        scenario.module(tokenizer),
        datamodule=FiveRows(scenario.batch_size // size, tokenizer=tokenizer),
        ckpt_path=checkpoint,
        weights_only=True,
    )
    return recorder.found


def main(strategy: str, rank: str, size: str, folder: str) -> None:
    """Run every scenario that the strategy can serve; of several processes also a run that is broken off."""
    torch.set_num_threads(1)
    for name, scenario in SCENARIOS.items():
        if scenario.splits or strategy != "fsdp2":
            found = run(scenario, strategy, int(size), Path(folder))
            if rank == "0":
                torch.save(found, Path(folder, f"{name}.pt"))
    if strategy == "one":
        return
    path = Path(folder, "middle.ckpt")
    unbroken = run(DROPS_OUT, strategy, int(size), Path(folder))
    with suppress(InterruptedError):
        run(DROPS_OUT, strategy, int(size), Path(folder), StopAt(4, path))
    resumed = run(DROPS_OUT, strategy, int(size), Path(folder), checkpoint=path)
    if rank == "0":
        torch.save([unbroken, resumed], Path(folder, "resumed.pt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
