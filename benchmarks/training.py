"""What an optimizer step of ours costs beside a bare loop of the same precision, on TOFU's rows.

The bare loop is the floor: rows encoded and packed already (as ours packs them), one forward pass with logits at the
labelled positions only, one backward pass, clipping, fused AdamW; GradDiff, nothing checked and nothing logged. Ours is
`Trainer.fit` with all that comes with it, from one step's end to the next one's: encoding is done, collating, packing
and logging are not. Bare and ours take turns, step by step; a refresh of the curvature, every ten steps, is spread over
its ten. NPO is compared with the same bare GradDiff, after the pass that caches its reference.

Peak memory is that of a process which does one of both and nothing else, over twelve steps.

OMP_NUM_THREADS=1 python -m benchmarks.training MODEL TOFU [--precision 32-true] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import chain, islice, repeat
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks.peak import in_own_process, peak_mib
from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.datamodules import TOFUDataModule
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.packing import pack
from soul_lightning.networks.predictions import predicting_positions
from soul_lightning.objectives import NPO, CrossEntropy, GradientAscent
from soul_lightning.protocols import Step

Way = Literal["AdamW", "Sophia", "NPO"]
WARM_UP = 2
"""Steps before the clock starts."""
MEMORY_STEPS = 12
"""Steps of a process whose peak memory is read: two refreshes of the curvature."""


def main() -> None:
    """Print tokens per CPU second of every way, ratios of pairs, and peaks of memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or name of a causal language model")
    parser.add_argument("tofu", help="folder with the published files of TOFU")
    parser.add_argument("--ways", nargs="+", default=["AdamW", "Sophia", "NPO"], help="what is measured")
    parser.add_argument("--steps", type=int, default=30, help="measured steps, in tens")
    parser.add_argument("--precision", choices=("bf16-mixed", "32-true"), default="bf16-mixed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--micro-batches", type=int, default=1)
    parser.add_argument("--child", choices=("bare", "AdamW", "Sophia", "NPO"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        print(_peak(arguments))
        return
    for way in arguments.ways:
        race = Race(bare_loop(arguments), arguments.steps)
        fit(arguments, way, race, WARM_UP + arguments.steps)
        print(f"{way}: {race.report()}", flush=True)
    (bare,) = in_own_process("benchmarks.training", "bare", *sys.argv[1:])
    for way in arguments.ways:
        (peak,) = in_own_process("benchmarks.training", way, *sys.argv[1:])
        print(f"peak memory: bare {bare:,.0f} MiB · {way} {peak:,.0f} MiB · ratio {peak / bare:.2f}", flush=True)


class Race(Callback):
    """Takes a bare step after each step of ours, and the time of both.

    Args:
        bare: Takes the bare step.
        steps: Measured steps.
    """

    def __init__(self, bare: Callable[[Step], None], steps: int) -> None:
        self._bare = bare
        self._steps = steps
        self._clock = time.process_time()
        self._seconds: list[tuple[float, float]] = []
        self._tokens: list[int] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Step, batch_idx: int
    ) -> None:
        """The end of our step: stop the clock, take the bare step, start it anew."""
        ours = time.process_time() - self._clock
        started = time.process_time()
        self._bare(batch)
        self._seconds.append((time.process_time() - started, ours))
        self._tokens.append(sum(int(part.attention_mask.sum()) for part in batch.batches.values()))
        self._clock = time.process_time()

    def report(self) -> str:
        """Medians over tens of steps, so that each holds one refresh."""
        seconds, tokens = self._seconds[WARM_UP:], self._tokens[WARM_UP:]
        tens = [range(start, start + 10) for start in range(0, self._steps, 10)]

        def rate(who: int, ten: range) -> float:
            return sum(tokens[step] for step in ten) / sum(seconds[step][who] for step in ten)

        rates = [[rate(who, ten) for ten in tens] for who in (0, 1)]
        bare, ours = (statistics.median(found) for found in rates)
        ratio = statistics.median(our / floor for floor, our in zip(*rates, strict=True))
        return f"bare {bare:.1f} · ours {ours:.1f} tokens per CPU second · ratio {ratio:.3f} ({len(tens)} × 10 pairs)"


def fit(arguments: argparse.Namespace, way: Way, callback: Callback | None, steps: int) -> None:
    """Our side: an ordinary run, on one process."""
    source = PretrainedNetwork(arguments.model)
    sophia: dict[str, Any] = {"optimizer": partial(Sophia, lr=1e-6), "curvature": GaussNewtonBartlett(10)}
    module = UnlearningModule(
        source,
        forget=NPO() if way == "NPO" else GradientAscent(),
        retain=CrossEntropy(),
        micro_batches=arguments.micro_batches,
        **(sophia if way == "Sophia" else {"optimizer": partial(torch.optim.AdamW, lr=1e-6, fused=True)}),
    )
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            accelerator="cpu",
            devices=1,
            precision=arguments.precision,
            max_steps=steps,
            max_epochs=-1,
            logger=TensorBoardLogger(folder),
            log_every_n_steps=1,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[callback] if callback is not None else [],
        ).fit(module, datamodule=tofu_rows(arguments))


def tofu_rows(arguments: argparse.Namespace, **settings: Any) -> TOFUDataModule:
    """Four forget and four retain rows a step; the smallest forget set, for NPO asks its reference about all of it."""
    return TOFUDataModule("forget01", folder=arguments.tofu, batch_size=4, text_probes=1, question_probes=1, **settings)


def bare_loop(arguments: argparse.Namespace) -> Callable[[Step], None]:
    """The other side: forward, backward, clip, step."""
    network = cast("PreTrainedModel", PretrainedNetwork(arguments.model).load_network().train())
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=True)
    low = partial(torch.autocast, "cpu", torch.bfloat16, enabled=arguments.precision == "bf16-mixed")

    def step(rows: Step) -> None:
        optimizer.zero_grad()  # as ours, at the beginning: freed memory at hand would be a gift to the other side
        with low():
            loss = _gradient_difference(network, rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def _gradient_difference(network: PreTrainedModel, rows: Step) -> Tensor:
    batches = [rows.batches["forget"], rows.batches["retain"]]
    packed = pack(batches, "rows", network.config.hidden_size)
    places, labels = [], []
    for batch, starts in zip(batches, packed.starts, strict=True):
        row, token = predicting_positions(batch.labels).nonzero(as_tuple=True)
        places.append(starts[row] + token)
        labels.append(batch.labels[row, token + 1])
    hidden = network.model(input_ids=packed.input_ids, position_ids=packed.position_ids, use_cache=False)[0]
    logits = network.lm_head(hidden.flatten(0, 1)[torch.cat(places)]).float()
    losses = functional.cross_entropy(logits, torch.cat(labels), reduction="none")
    forget, retain = losses.split([len(part) for part in places])
    loss: Tensor = retain.mean() - forget.mean()
    return loss


def _peak(arguments: argparse.Namespace) -> float:
    if arguments.child == "bare":
        data = tofu_rows(arguments, tokenizer=arguments.model)
        data.setup()
        step, loader = bare_loop(arguments), data.train_dataloader()
        epochs = chain.from_iterable(repeat(loader))
        for rows in islice(epochs, MEMORY_STEPS):
            step(rows)
    else:
        fit(arguments, arguments.child, None, MEMORY_STEPS)
    return peak_mib()


if __name__ == "__main__":
    main()
