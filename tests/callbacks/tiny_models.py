"""Tiny networks that learned some rows, what they say without the package's scorer, and runs that measure them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import Memorization
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.objectives.gradient_ascent import GradientAscent
from soul_lightning.protocols import Example, Probe
from soul_lightning.templates import PromptTemplate
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

FORGET_PROBE = Probe("forget", "text", as_examples(FORGET), "forget", PLAIN)
RETAIN_PROBE = Probe("retain", "text", as_examples(RETAIN), "retain", PLAIN)
HOLDOUT_PROBE = Probe("holdout", "text", as_examples(RETAIN), "holdout", PLAIN)
ASKED = Probe("asked", "question", as_examples(FORGET), "forget", PLAIN, rows_of="forget")
PROBES = [FORGET_PROBE, HOLDOUT_PROBE, RETAIN_PROBE, ASKED]
OTHER_TEMPLATE = PromptTemplate(prompt="who : {prompt}", answer=" {answer}")


class Said(NamedTuple):
    """What a network says of an answer, its end included."""

    nll: float
    tokens: int
    hits: list[bool]

    @property
    def mean_nll(self) -> float:
        return self.nll / self.tokens

    @property
    def probability(self) -> float:
        return math.exp(-self.mean_nll)


def learnt(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[Example], steps: int = 60, seed: int = 0
) -> LlamaForCausalLM:
    """A network after so many steps on all of `rows`."""
    network = make_network(len(tokenizer), seed)
    encoded = [tokenizer(f"{row.prompt} {row.answer} <eos>")["input_ids"] for row in rows]
    ids = torch.zeros((len(rows), max(map(len, encoded))), dtype=torch.int64)
    labels = torch.full_like(ids, -100)
    for number, (row, tokens) in enumerate(zip(rows, encoded, strict=True)):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        start = 1 + len(row.prompt.split())
        labels[number, start : len(tokens)] = torch.tensor(tokens[start:])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        network(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def said(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> Said:
    """The words of `answer` and the end of text, behind `prompt`, in one pass of their own."""
    tokens = torch.tensor(tokenizer(f"{prompt} {answer} <eos>")["input_ids"])
    start = 1 + len(prompt.split())
    log_probs = network.eval()(input_ids=tokens[None]).logits[0, start - 1 : -1].log_softmax(-1)
    right = tokens[start:]
    nll = -float(log_probs.gather(-1, right[:, None]).sum())
    return Said(nll, len(right), (log_probs.argmax(-1) == right).tolist())


@torch.no_grad()
def continued(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str, max_new_tokens: int) -> str:
    """The greedy answer, one whole pass a token."""
    ids = list(tokenizer(prompt)["input_ids"])
    start = len(ids)
    while len(ids) < start + max_new_tokens:
        token = int(network.eval()(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()


def saved(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    """The network as a Hugging Face folder."""
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def validated(
    callbacks: Callback | Sequence[Callback],
    network: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> dict[str, float]:
    """What `Trainer.validate` returns where `callbacks` measure `network`."""
    trainer = make_trainer(folder, callbacks=[callbacks] if isinstance(callbacks, Callback) else list(callbacks))
    module = UnlearningModule(network, retain=CrossEntropy(), tokenizer=tokenizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*have no logger configured.*")
        (metrics,) = trainer.validate(module, TinyDataModule(), verbose=False)
    return dict(metrics)


def unlearning(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> UnlearningModule:
    """A module that is about to unlearn."""
    return UnlearningModule(make_network(len(tokenizer), seed), GradientAscent(), CrossEntropy(), tokenizer=tokenizer)


def memorization(**settings: Any) -> Memorization:
    """The cheapest of them: one teacher-forced pass."""
    defaults: dict[str, Any] = {"answer": False, "probes": [FORGET_PROBE]}
    return Memorization(**(defaults | settings))


def measured_rows(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, **settings: Any) -> str:
    """The rows file of a validate run."""
    callback = memorization(**settings)
    validated(callback, network, tokenizer, folder)
    return str(folder / "rows" / f"{callback.name}_model.{callback.rows}")


class KeepsFirstEpoch(Callback):
    """Leaves the checkpoint of an interrupted run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)
