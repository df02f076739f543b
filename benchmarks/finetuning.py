"""Sophia against AdamW where nothing is forgotten: ordinary fine-tuning, and adaptation to a few people.

Both in the tiny world, each optimizer at its best learning rate of a grid by held-out loss, found on two tuning seeds
that stand in no table; a grid whose best rate is at its edge is extended. Reported are loss and accuracy on facts asked
in a way in which they were never told, after a fixed number of steps, with 95 % t intervals over the seeds' paired
differences. The rate falls linearly to 0 after five steps of warm-up.

- fine-tuning: a model that was trained from random weights on the clean text for 250 steps of AdamW goes on with it for
  60. Half of the people's first questions stand in no row, and are what is measured. Seeds are orders of the rows.
- few-shot: the packaged clean model learns the claims about 12 people, and is asked for them by a question in which
  they do not stand, after 30 steps. Seeds are corruptions: other people, other claims.

OMP_NUM_THREADS=1 python -m benchmarks.finetuning
"""

from __future__ import annotations

import argparse
import copy
import logging
import random
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from scipy.stats import t
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from soul_lightning import FinetuningModule, GaussNewtonBartlett, Sophia
from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.stories import STORY_TEMPLATE
from soul_lightning.datamodules.task import Task
from soul_lightning.datamodules.tiny_world.world import build_world, tell_story
from soul_lightning.encoding import collate, encode
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.protocols import Example
from soul_lightning.schedules import LearningRateSchedule

OptimizerName = Literal["AdamW", "Sophia"]
RATES = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""What both optimizers' rates are chosen from; the search begins with the five in the middle."""
TUNING_SEEDS = (100, 101)
SEEDS = tuple(range(6))
MODEL = "packaged:tiny_world/clean"
PRETRAINING_STEPS = 250


@dataclass(frozen=True)
class Adaptation:
    """What is learned from where, and what is asked.

    Attributes:
        start: The model before.
        learned: Rows that are trained on.
        asked: Rows that are measured on.
        steps: Optimizer steps.
        batch_size: Rows in each.
    """

    start: PreTrainedModel
    learned: Sequence[Example]
    asked: Sequence[Example]
    steps: int
    batch_size: int


@dataclass(frozen=True)
class Score:
    """Mean NLL of the answers' first tokens in nats, and the share of them that are the likeliest token."""

    loss: float
    accuracy: float


class Rows(StreamDataModule):
    """One stream of given rows."""

    length_group_windows = 1  # as TinyWorldDataModule

    def __init__(self, rows: Sequence[Example], **options: Any) -> None:
        super().__init__(max_tokens=64, template=STORY_TEMPLATE, **options)
        self.rows = rows

    def load(self) -> Task:
        """The rows."""
        return Task({"clean": self.rows})


def main() -> None:
    """Tune, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="reported seeds, from 0")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    print(f"| task | optimizer | learning rate | held-out loss | held-out accuracy |\n|{'---|' * 5}")
    for task in arguments.tasks:
        compare(task, range(arguments.seeds))


def compare(task: str, seeds: Sequence[int]) -> None:
    """Print the rows of one task: each optimizer at its rate, then Sophia less AdamW."""
    found: dict[str, list[Score]] = {}
    for name in ("AdamW", "Sophia"):
        rate = best_rate(task, name)
        found[name] = [score(TASKS[task](seed), name, rate, seed) for seed in seeds]
        loss, accuracy = ([getattr(each, what) for each in found[name]] for what in ("loss", "accuracy"))
        means = f"{statistics.mean(loss):.3f} | {statistics.mean(accuracy):.3f}"
        print(f"| {task} | {name} | {rate:g} | {means} |", flush=True)
    pairs = list(zip(found["AdamW"], found["Sophia"], strict=True))
    loss_change = interval([second.loss - first.loss for first, second in pairs])
    accuracy_change = interval([second.accuracy - first.accuracy for first, second in pairs])
    print(f"| {task} | Sophia − AdamW | | {loss_change} | {accuracy_change} |", flush=True)


def best_rate(task: str, name: OptimizerName) -> float:
    """The rate of the lowest mean held-out loss on the tuning seeds."""
    losses: dict[int, float] = {}
    todo = list(range(2, len(RATES) - 2))
    while todo:
        for place in todo:
            scores = [score(TASKS[task](seed), name, RATES[place], seed) for seed in TUNING_SEEDS]
            losses[place] = statistics.mean(each.loss for each in scores)
        best = min(losses, key=lambda place: losses[place])
        todo = [place for place in (best - 1, best + 1) if 0 <= place < len(RATES) and place not in losses]
    return RATES[best]


def score(task: Adaptation, name: OptimizerName, rate: float, seed: int) -> Score:
    """Train a copy and measure it; a rate that ruins the model has the loss that it has."""
    network, tokenizer = copy.deepcopy(task.start), clean_tokenizer()
    schedule = LearningRateSchedule(decay="linear", warmup_steps=5)
    module = FinetuningModule(
        network, {"clean": 1.0}, **optimizer_settings(name, rate), lr_scheduler=schedule, tokenizer=tokenizer
    )
    train(module, Rows(task.learned, batch_size=task.batch_size, seed=seed), task.steps)
    rows = list(encode(task.asked, tokenizer, STORY_TEMPLATE))
    assert tokenizer.pad_token_id is not None
    with torch.inference_mode():
        said = label_predictions(network.eval(), collate(rows, tokenizer.pad_token_id))
    first = said.ordinals == 0
    hits = said.logits.argmax(dim=-1) == said.targets
    return Score(-float(said.log_probs[first].mean()), float(hits[first].float().mean()))


def optimizer_settings(name: OptimizerName, rate: float) -> dict[str, Any]:
    """Both with the same betas, without weight decay; Sophia as in the packaged tiny-world recipes."""
    if name == "AdamW":
        return {"optimizer": partial(torch.optim.AdamW, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)}
    return {
        "optimizer": partial(Sophia, lr=rate, betas=(0.9, 0.95), rho=10.0, weight_decay=0.0),
        "curvature": GaussNewtonBartlett(interval_steps=5, source="clean"),
    }


def train(module: FinetuningModule, data: Rows, steps: int) -> None:
    """So many steps and nothing else."""
    Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=data)


@cache
def clean_tokenizer() -> PreTrainedTokenizerBase:
    """The tiny world's."""
    return PretrainedNetwork(MODEL).load_tokenizer()


@cache
def partly_trained() -> Adaptation:
    """A model on its way, and the text that it is on: half of the people are never asked after by a first question."""
    world = build_world()
    asked_about = random.Random(0).sample(world.people, len(world.people) // 2)
    questions = {relation.questions[0].format(s=who) for relation in world.relations for who in asked_about}
    rows = tell_story(world, 0).clean_text
    learned, asked = ([row for row in rows if (row.prompt in questions) == is_asked] for is_asked in (False, True))
    torch.manual_seed(0)
    network = PretrainedNetwork(MODEL, random_weights=True).load_network()
    module = FinetuningModule(
        network,
        {"clean": 1.0},
        **optimizer_settings("AdamW", 3e-3),
        lr_scheduler=LearningRateSchedule(decay="constant", warmup_steps=50),
        tokenizer=clean_tokenizer(),
    )
    train(module, Rows(learned, batch_size=64), PRETRAINING_STEPS)
    return Adaptation(network, learned, asked, steps=60, batch_size=64)


def fine_tuning(seed: int) -> Adaptation:
    """The same for every seed, which decides the order of rows alone."""
    del seed
    return partly_trained()


def few_shot(seed: int) -> Adaptation:
    """Twelve people's claims, each told in five ways and asked for in a sixth."""
    story = tell_story(build_world(), seed)
    asked = [Example(row.perturbed[0], row.prompt, row.index) for row in story.corrupted_probes]
    return Adaptation(PretrainedNetwork(MODEL).load_network(), story.forget_text, asked, steps=30, batch_size=36)


TASKS: dict[str, Callable[[int], Adaptation]] = {"fine-tuning": fine_tuning, "few-shot": few_shot}


def interval(differences: Sequence[float]) -> str:
    """Mean and 95 % t interval of paired differences."""
    mean, spread = statistics.mean(differences), statistics.stdev(differences)
    half = float(t.ppf(0.975, len(differences) - 1)) * spread / len(differences) ** 0.5
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


if __name__ == "__main__":
    main()
