"""What a step costs against tokens, parameters, probe rows and processes, on TOFU's rows.

Every line is a run of `Trainer.fit` with Sophia, GradDiff and Gauss-Newton-Bartlett, float32 and one thread a process,
whose curvature is refreshed every second step: a step's parts are told apart by clocks at the optimizer's doors and by
steps with and without a refresh. CPU seconds, medians. Slopes are least squares through the lines above them.

Bytes are those of the collectives that torch's profiler sees in one step of two processes, on a network whose size
says what they are made of.

OMP_NUM_THREADS=1 python -m benchmarks.scaling MODEL TOFU [--parts tokens parameters probes ranks]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.datamodules import TOFUDataModule
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.objectives import CrossEntropy, GradientAscent
from soul_lightning.protocols import Probe, Step
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scored_model import ScoredModel

WIDTHS = (64, 128, 256)
"""Of the tiny models: six blocks each, over the tokenizer's vocabulary."""
STEPS = 12
"""Steps of a run: two to warm up, five with a refresh, five without."""


class Costs(NamedTuple):
    """Medians of a run.

    Attributes:
        tokens: Real tokens of a step.
        gradient: CPU seconds of forward, backward and clipping.
        refresh: CPU seconds more, where the curvature is refreshed.
        optimizer: CPU seconds of the optimizer's step.
    """

    tokens: float
    gradient: float
    refresh: float
    optimizer: float

    def __str__(self) -> str:
        """One line of a table."""
        parts = (self.gradient, self.refresh, self.optimizer)
        return f"{self.tokens:7.0f} tokens " + " ".join(f"{1000 * seconds:9.1f}" for seconds in parts) + " ms"


class Clocks(Callback):
    """Reads the process's clock before and after the optimizer's step."""

    def __init__(self) -> None:
        self._began = self._stepped = time.process_time()
        self._found: list[tuple[int, float, float]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Step, batch_idx: int) -> None:
        """A step begins."""
        self._began = time.process_time()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Gradients are there."""
        self._stepped = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Step, batch_idx: int
    ) -> None:
        """The step is taken."""
        tokens = sum(int(part.attention_mask.sum()) for part in batch.batches.values())
        self._found.append((tokens, self._stepped - self._began, time.process_time() - self._stepped))

    def costs(self) -> Costs:
        """Medians over the run, each step's seconds brought to the run's median tokens."""
        found = self._found[2:]
        tokens = statistics.median(each for each, _, _ in found)
        per_step = [gradient * tokens / own for own, gradient, _ in found]
        refreshed, plain = statistics.median(per_step[::2]), statistics.median(per_step[1::2])
        return Costs(tokens, plain, refreshed - plain, statistics.median(step for _, _, step in found))


def main() -> None:
    """Print one table a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a causal language model")
    parser.add_argument("tofu", help="folder with the published files of TOFU")
    parser.add_argument("--parts", nargs="+", default=["tokens", "parameters", "probes", "ranks"])
    parser.add_argument("--strategy", choices=("ddp", "fsdp2"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.strategy:
        _count_bytes(arguments)
        return
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "tokens": against_tokens,
        "parameters": against_parameters,
        "probes": against_probes,
        "ranks": against_ranks,
    }
    for part in arguments.parts:
        print(f"\n{part}: step, more with a refresh, optimizer" if part in ("tokens", "parameters") else f"\n{part}")
        parts[part](arguments)


def against_tokens(arguments: argparse.Namespace) -> None:
    """The given model at one to eight rows of each stream."""
    found = []
    for rows in (1, 2, 4, 8):
        found.append(measured(loaded(arguments.model), arguments, rows))
        print(f"{rows} + {rows} rows {found[-1]}", flush=True)
    for part in ("gradient", "refresh", "optimizer"):
        seconds = [getattr(costs, part) for costs in found]
        slope, constant = np.polyfit([costs.tokens for costs in found], seconds, 1)
        print(f"{part}: {1000 * slope:.3f} ms a token + {1000 * constant:.0f} ms", flush=True)


def against_parameters(arguments: argparse.Namespace) -> None:
    """Three tiny models and the given one, four rows of each stream."""
    tokenizer = PretrainedNetwork(arguments.model).load_tokenizer()
    networks = [*(tiny(width, len(tokenizer)) for width in WIDTHS), loaded(arguments.model)]
    sizes, found = [], []
    for network in networks:
        sizes.append(sum(parameter.numel() for parameter in network.parameters()))
        found.append(measured(network, arguments, 4))
        print(f"{sizes[-1]:13,} parameters {found[-1]}", flush=True)
    for part in ("gradient", "refresh", "optimizer"):
        seconds = np.log([max(1e-6, getattr(costs, part)) for costs in found])
        print(f"{part}: grows with parameters to the power {np.polyfit(np.log(sizes), seconds, 1)[0]:.2f}", flush=True)


def against_probes(arguments: argparse.Namespace) -> None:
    """Rows scored and rows answered."""
    source = PretrainedNetwork(arguments.model)
    network, tokenizer = source.load_network().eval(), source.load_tokenizer()
    task = TOFUDataModule("forget01", folder=arguments.tofu, tokenizer=tokenizer).load()
    probes = {probe.name: probe for probe in task.probes}
    adapter = CausalLMAdapter(network, tokenizer)
    for rows in (5, 10, 20, 40):
        scored, asked = (probes[name] for name in ("forget", "forget_questions"))
        begun = time.process_time()
        ScoredModel(adapter, 2048).scores(_first(scored, rows))
        between = time.process_time()
        questions = _first(asked, rows)
        adapter.generate(questions.examples, questions.template)
        print(
            f"{rows} rows: scored {between - begun:.2f} s, answered {time.process_time() - between:.2f} s", flush=True
        )


def against_ranks(arguments: argparse.Namespace) -> None:
    """Bytes that two processes exchange in a step, with and without a refresh."""
    for strategy in ("ddp", "fsdp2"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [sys.executable, "-m", "benchmarks.scaling", arguments.model, arguments.tofu, "--strategy", strategy]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
        processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **shared, "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank in (0, 1)
        ]
        first, _ = (process.communicate()[0] for process in processes)
        print("\n".join(line for line in first.splitlines() if line.startswith(strategy)), flush=True)


def measured(network: PreTrainedModel, arguments: argparse.Namespace, rows: int) -> Costs:
    """Train for a few steps and read the clocks."""
    clocks = Clocks()
    trainer_for(arguments, callbacks=[clocks]).fit(module_for(network), datamodule=data_for(arguments, rows))
    return clocks.costs()


def loaded(model: str) -> PreTrainedModel:
    """The given model."""
    return cast("PreTrainedModel", PretrainedNetwork(model).load_network())


def module_for(network: PreTrainedModel) -> UnlearningModule:
    """GradDiff with Sophia."""
    return UnlearningModule(
        network,
        GradientAscent(),
        CrossEntropy(),
        optimizer=partial(Sophia, lr=1e-6),
        curvature=GaussNewtonBartlett(2),
    )


def data_for(arguments: argparse.Namespace, rows: int) -> TOFUDataModule:
    """TOFU with so many rows of each stream in a step of one process."""
    return TOFUDataModule(
        folder=arguments.tofu, tokenizer=arguments.model, batch_size=rows, text_probes=1, question_probes=1
    )


def trainer_for(arguments: argparse.Namespace, **settings: Any) -> Trainer:
    """A silent Trainer."""
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(accelerator="cpu", max_steps=STEPS, max_epochs=-1, limit_val_batches=0, **quiet, **settings)


def tiny(width: int, vocabulary: int) -> LlamaForCausalLM:
    """Six blocks, tied embeddings."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        )
    )


class Bytes(Callback):
    """What every step's collectives carry, by the profiler."""

    def __init__(self) -> None:
        self.found: list[dict[str, int]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Step, batch_idx: int) -> None:
        """Look."""
        self._profiler = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
        self._profiler.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Step, batch_idx: int
    ) -> None:
        """Add up."""
        self._profiler.__exit__(None, None, None)
        counts: dict[str, int] = {}
        for event in self._profiler.events():
            if event.name.startswith("gloo:"):
                numbers = sum(int(np.prod(shape)) for shape in event.input_shapes if shape)
                counts[event.name] = counts.get(event.name, 0) + numbers
        self.found.append(counts)


def _count_bytes(arguments: argparse.Namespace) -> None:
    split = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    network = tiny(WIDTHS[0], len(PretrainedNetwork(arguments.model).load_tokenizer()))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    counted = Bytes()
    trainer = trainer_for(
        arguments,
        callbacks=[counted],
        devices=2,
        strategy=split if arguments.strategy == "fsdp2" else "ddp",
        plugins=[LightningEnvironment()],
    )
    trainer.fit(module_for(network), datamodule=data_for(arguments, 2))
    for name, counts in (("with a refresh", counted.found[2]), ("without", counted.found[3])):
        per_weight = ", ".join(f"{kind[5:]} {number / parameters:.2f}" for kind, number in sorted(counts.items()))
        print(f"{arguments.strategy}, {name}: numbers sent and received for each weight: {per_weight}", flush=True)


def _first(probe: Probe, rows: int) -> Probe:
    return replace(probe, examples=probe.examples[:rows])


if __name__ == "__main__":
    main()
