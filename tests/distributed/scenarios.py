"""What is trained on one and on two processes alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import Callback
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Hutchinson, Sophia, UnlearningModule
from soul_lightning.attacks.relearning import FineTuning
from soul_lightning.callbacks import (
    Bound,
    DivergenceGuard,
    HiddenStateProbe,
    MembershipInference,
    Memorization,
    PromptAttack,
    QuantizationAttack,
    RelearningAttack,
    Restoration,
    Utility,
)
from soul_lightning.modules.base import StreamModule
from soul_lightning.modules.pruning import Pruning
from soul_lightning.modules.saliency import Saliency
from soul_lightning.networks.loading import LoraSettings, _add_lora
from soul_lightning.objectives import L1, NPO, RMU, CrossEntropy, KLDivergence, RMURetention
from soul_lightning.optim import AdaptiveInterval, Lion
from soul_lightning.protocols import Probe
from soul_lightning.schedules import LearningRateSchedule
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network

second_order: Any = partial(Sophia, lr=1e-4, rho=0.4)
"""The rate bounds what rounding can become where momentum and curvature are both next to nothing."""


@dataclass(frozen=True)
class Scenario:
    """A run on 5 forget and 8 retain rows.

    Attributes:
        module: Makes the module.
        batch_size: Rows of each stream in a step, over all processes; passes over 5 rows end unevenly.
        callbacks: What measures after each epoch.
        splits: Whether it can run with its weights split.
        ddp: Lightning's name of the strategy that keeps them whole.
    """

    module: Callable[[PreTrainedTokenizerFast], StreamModule]
    batch_size: int = 4
    callbacks: Callable[[], list[Callback]] = list
    splits: bool = True
    ddp: str = "ddp"


def npo_with_sophia(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """Cached reference, Gauss-Newton-Bartlett, micro-batches."""
    return UnlearningModule(
        make_network(len(tokenizer)),
        NPO(0.5, "token"),
        CrossEntropy(),
        optimizer=second_order,
        curvature=GaussNewtonBartlett(interval_steps=2),
        micro_batches=2,
        tokenizer=tokenizer,
    )


def masked_surgery(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """A frozen copy, a price on weights, surgery, a saliency mask, and clipping that bites."""
    return UnlearningModule(
        make_network(len(tokenizer)),
        NPO(0.5),
        KLDivergence(),
        gradient_surgery="gru",
        saliency=Saliency(0.5),
        max_grad_norm=0.05,
        optimizer=partial(Lion, lr=1e-3),
        tokenizer=tokenizer,
    )


def sharpness_aware(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """Weights that move away and back within a step, and pruned ones that do not move."""
    return UnlearningModule(
        make_network(len(tokenizer)),
        NPO(0.5),
        CrossEntropy(),
        sharpness_radius=0.5,
        pruning=Pruning(0.3),
        optimizer=second_order,
        curvature=GaussNewtonBartlett(interval_steps=2),
        micro_batches=2,
        tokenizer=tokenizer,
    )


def sparse(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """A term in the weights themselves."""
    return UnlearningModule(make_network(len(tokenizer)), NPO(0.5), L1(1e-3), tokenizer=tokenizer)


def adapters(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """LoRA, whose reference is the network without it; the curvature of both streams, a part of the rows."""
    torch.manual_seed(0)  # of the adapters
    return UnlearningModule(
        cast("PreTrainedModel", _add_lora(make_network(len(tokenizer)), LoraSettings(r=4))),
        NPO(0.5),
        KLDivergence(),
        optimizer=second_order,
        curvature=GaussNewtonBartlett(1, source="both", fraction=0.7),
        tokenizer=tokenizer,
    )


def scheduled(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """Dropout, and a learning rate that asks how many steps there are before a checkpoint is read."""
    return UnlearningModule(
        make_network(len(tokenizer), dropout=0.1),
        NPO(0.5),
        KLDivergence(),
        optimizer=second_order,
        lr_scheduler=LearningRateSchedule("linear", warmup_steps=2),
        curvature=GaussNewtonBartlett(AdaptiveInterval(2, 4)),
        tokenizer=tokenizer,
    )


def hidden_states(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """Hidden states of the network and of a frozen copy."""
    return UnlearningModule(
        make_network(len(tokenizer)),
        RMU(layer=1, steering_coefficient=2.0),
        RMURetention(layer=1),
        optimizer=second_order,
        curvature=GaussNewtonBartlett(AdaptiveInterval(1, 4)),
        tokenizer=tokenizer,
    )


def hessian(tokenizer: PreTrainedTokenizerFast) -> StreamModule:
    """The Hessian's diagonal, of both streams, in micro-batches."""
    return UnlearningModule(
        make_network(len(tokenizer)),
        NPO(0.5),
        CrossEntropy(),
        optimizer=second_order,
        curvature=Hutchinson(2, source="both", fraction=0.7),
        micro_batches=2,
        tokenizer=tokenizer,
    )


def measured() -> list[Callback]:
    """Metrics of every kind: answers, likelihoods, attacks."""
    return [Restoration(max_new_tokens=4), Memorization(), MembershipInference(), Utility()]


def attacking() -> list[Callback]:
    """Attacks, which work on copies of the whole model."""
    training = FineTuning(learning_rate=1e-3, measure_at=(0, 3))
    forget, retain = as_examples(FORGET), as_examples(RETAIN)
    kept = [replace(row, index=n) for n, row in enumerate(retain * 3)]  # a probe learns from twenty or more
    probes = [Probe("asked", "question", forget, "forget", PLAIN), Probe("kept", "question", kept, "retain", PLAIN)]
    return [
        HiddenStateProbe(probes=probes, draws=199, every_n_epochs=1),
        PromptAttack(samples=2, every_n_epochs=1),
        QuantizationAttack(group_size=16, every_n_epochs=1),
        RelearningAttack(training=training, share=0.5, every_n_epochs=1),
    ]


def guarded() -> list[Callback]:
    """A measurement, and a guard that puts the weights of the first epoch back after the second."""
    return [Utility(answer=False), DivergenceGuard({"train/rows": Bound(times_start=1.5)})]


SCENARIOS = {
    "npo_with_sophia": Scenario(npo_with_sophia, callbacks=measured),
    "lone_rows": Scenario(npo_with_sophia, batch_size=2),
    "masked_surgery": Scenario(masked_surgery),
    "sharpness_aware": Scenario(sharpness_aware),
    "sparse": Scenario(sparse, callbacks=guarded),
    "adapters": Scenario(adapters),
    "hidden_states": Scenario(hidden_states, ddp="ddp_find_unused_parameters_true"),
    "hessian": Scenario(hessian, splits=False),
    "attacked": Scenario(npo_with_sophia, callbacks=attacking, splits=False),
}
"""`lone_rows`: the last step of a pass has one row, and the second process none."""
DROPS_OUT = Scenario(scheduled, batch_size=2)
"""Each process drops out other activations, so that one process is no measure of two; three steps make an epoch."""
