"""Foreign projects: callbacks are added in a line, measure what they should, and change nothing.

docs/drop_in.md shows the same four to read; a test of the pages runs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from soul_lightning.callbacks import MembershipInference, Memorization, Utility
from soul_lightning.networks.foreign import LogitsNetwork
from soul_lightning.records.probe_files import ProbeFile
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scorer import Scorer
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_network, make_trainer

ROWS = {"forget": FORGET, "holdout": RETAIN[:4], "retain": RETAIN[4:]}


class Decoder(nn.Module):
    """A transformer by hand that returns a tensor."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        logits: Tensor = self.head(self.blocks(self.embed(ids), mask=mask, is_causal=True))
        return logits


def ask_decoder(network: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """How the hand-written network is asked: padding stands on the right, where no earlier token sees it."""
    logits: Tensor = network(input_ids)
    return logits


class Project(LightningModule):
    """Automatic optimization around any network, under a name of its own."""

    def __init__(self, network: nn.Module, logits: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = network
        self.logits = logits

    def training_step(self, ids: Tensor, batch_idx: int) -> Tensor:
        return functional.cross_entropy(self.logits(self.model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    def validation_step(self, ids: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.training_step(ids, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([weight for weight in self.parameters() if weight.requires_grad], lr=1e-2)


def plain(vocabulary: int) -> Project:
    return Project(make_network(vocabulary, dropout=0.2), lambda network, ids: network(input_ids=ids).logits)


def by_hand(vocabulary: int) -> Project:
    torch.manual_seed(0)
    return Project(Decoder(vocabulary), lambda network, ids: network(ids))


def with_lora(vocabulary: int) -> Project:
    torch.manual_seed(0)
    adapters = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.2, task_type="CAUSAL_LM")
    network = get_peft_model(make_network(vocabulary), adapters)
    return Project(network, lambda network, ids: network(input_ids=ids).logits)


def loader(tokenizer: PreTrainedTokenizerFast) -> DataLoader[Tensor]:
    rows: Any = [torch.tensor(tokenizer(f"{prompt} oslo")["input_ids"]) for prompt, _ in FORGET[:4]]
    return DataLoader([row[:4] for row in rows], batch_size=2)  # type: ignore[arg-type]  # a list is a data set


@pytest.fixture
def files(tmp_path: Path) -> list[ProbeFile]:
    """The rows as files of questions."""
    for role, pairs in ROWS.items():
        lines = [json.dumps({"question": prompt, "answer": answer}) for prompt, answer in pairs]
        (tmp_path / f"{role}.jsonl").write_text("\n".join(lines))
    return [ProbeFile(str(tmp_path / f"{role}.jsonl"), role, template=PLAIN) for role in ROWS]


PROJECTS = {"plain": (plain, None), "by hand": (by_hand, ask_decoder), "LoRA": (with_lora, None)}


@pytest.mark.parametrize("project", PROJECTS)
def test_a_project_is_measured_and_trains_as_before(
    project: str, tokenizer: PreTrainedTokenizerFast, files: Sequence[ProbeFile], tmp_path: Path
) -> None:
    make, forward = PROJECTS[project]
    shared: dict[str, Any] = {"probes": list(files), "tokenizer": tokenizer, "forward": forward}
    answering = shared | {"max_new_tokens": 3}
    callbacks: list[Callback] = [MembershipInference(**shared), Memorization(**answering), Utility(**answering)]
    weights = []
    for added in ([], callbacks):
        module = make(len(tokenizer))
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=added)
        torch.manual_seed(3)
        trainer.fit(module, loader(tokenizer))
        weights.append(torch.cat([weight.detach().flatten() for weight in module.parameters()]))
    assert torch.equal(*weights)
    network = LogitsNetwork(module.model, forward) if forward is not None else module.model
    scores = Scorer(CausalLMAdapter(network, tokenizer))(as_examples(FORGET), PLAIN)
    expected = sum(score.probability for score in scores) / len(scores)
    assert float(trainer.callback_metrics["memorization/probability"]) == pytest.approx(expected, rel=1e-5)
    assert {"membership/loss_auc", "utility/retain_rouge_l"} <= set(trainer.callback_metrics)


def test_validate_alone(tokenizer: PreTrainedTokenizerFast, files: Sequence[ProbeFile], tmp_path: Path) -> None:
    callback = MembershipInference(probes=list(files), tokenizer=tokenizer)
    module = plain(len(tokenizer))
    before = [weight.clone() for weight in module.parameters()]
    trainer = make_trainer(tmp_path, callbacks=[callback])
    (metrics,) = trainer.validate(module, loader(tokenizer), verbose=False)
    assert 0 <= metrics["membership/loss_auc"] <= 1 and metrics["val/loss"] > 0
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))
