"""What a run will hold in memory, as a table before it begins."""

from __future__ import annotations

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.table import Table

from soul_lightning.memory import MemoryEstimate, estimate_memory
from soul_lightning.modules.base import StreamModule
from soul_lightning.modules.one_shot import OneShotModule
from soul_lightning.protocols import SuppliesStreams

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "reference": "reference model",
    "activations": "activations",
    "logits": "logits at labels",
}
"""The parts of a `MemoryEstimate`, and what they are called."""


class MemoryEstimator(Callback):
    """Estimates a run's memory when the model is loaded, prints it, and warns where the device has less.

    It serves the modules of this package that train step by step, on one process each; for others it is silent. What it
    costs is a pass over a few tokens. The memory of the libraries themselves is not counted.

    Args:
        report: Print the table.

    Attributes:
        estimate: The last run's.
    """

    def __init__(self, report: bool = True) -> None:
        super().__init__()
        self.report = report
        self.estimate: MemoryEstimate | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Estimate, print on the first process, warn."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, StreamModule) or isinstance(pl_module, OneShotModule):
            return
        if not isinstance(data, SuppliesStreams):
            return
        with trainer.precision_plugin.forward_context():
            self.estimate = estimate_memory(pl_module, data)
        if not trainer.is_global_zero:
            return
        there = available_bytes(pl_module.device)
        if self.report:
            size, console = self.estimate.size, Console(stderr=True)
            console.print(memory_table(self.estimate))
            console.print(
                f"longest pass: {size.rows} rows of up to {size.tokens:,} tokens, {size.labelled:,} labelled; "
                f"{pl_module.device.type} has {mebibytes(there)} left",
                highlight=False,
                soft_wrap=True,
            )
        needed = self.estimate.total - self.estimate.weights  # which are there already
        if needed > there:
            rank_zero_warn(
                f"the run needs about {mebibytes(needed)} beyond the weights, and {pl_module.device.type} has "
                f"{mebibytes(there)} left; raise micro_batches, set network.gradient_checkpointing or network.lora, or "
                f"lower data.max_tokens"
            )


def available_bytes(device: torch.device) -> int:
    """What a process can still take: free memory of a CUDA device, else the machine's memory that is available."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return int(psutil.virtual_memory().available)


def memory_table(estimate: MemoryEstimate) -> Table:
    """A row a part, and their sum."""
    table = Table(title="Memory, estimated", title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for part, name in PARTS.items():
        table.add_row(name, mebibytes(getattr(estimate, part)))
    table.add_section()
    table.add_row("at once", mebibytes(estimate.total))
    return table


def mebibytes(count: int) -> str:
    """`1,250 MiB`."""
    return f"{count / 2**20:,.0f} MiB"
