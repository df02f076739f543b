"""Reference policies inside of a run: chosen, named in the log, and all of one mind."""

from __future__ import annotations

import gc
import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.optim import SGD
from transformers import PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.saliency import Saliency
from soul_lightning.networks.loading import LoraSettings, PretrainedNetwork
from soul_lightning.objectives import DPO, NPO, UNDIAL, CrossEntropy, KLDivergence, Objective
from tests.conftest import TinyDataModule, make_network, make_trainer


def trained(
    tokenizer: PreTrainedTokenizerFast, folder: Path, forget: Objective, retain: Objective, **settings: Any
) -> torch.Tensor:
    module = UnlearningModule(
        make_network(len(tokenizer)), forget, retain, optimizer=partial(SGD, lr=0.1), tokenizer=tokenizer, **settings
    )
    make_trainer(folder, max_epochs=2).fit(module, datamodule=TinyDataModule(4))
    return torch.cat([parameter.detach().flatten() for parameter in module.network.parameters()])


@pytest.mark.parametrize(
    ("forget", "retain", "policies"),
    [
        (NPO(0.5), CrossEntropy(), ("cached_log_probs", "top_k_logits", "frozen_copy")),
        (DPO(0.5), CrossEntropy(), ("cached_log_probs", "top_k_logits", "frozen_copy")),
        (UNDIAL(2.0), KLDivergence(), ("top_k_logits", "frozen_copy")),
    ],
    ids=["npo", "dpo", "undial"],
)
def test_runs_with_any_policy_end_alike(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, forget: Objective, retain: Objective, policies: tuple[str, ...]
) -> None:
    chosen = trained(tokenizer, tmp_path, forget, retain)
    for policy in policies:
        other = trained(tokenizer, tmp_path, forget, retain, reference_policy=policy, reference_top_k=len(tokenizer))
        torch.testing.assert_close(other, chosen, rtol=1e-5, atol=1e-6)


def test_few_tokens_are_another_reference(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole = trained(tokenizer, tmp_path, UNDIAL(2.0), CrossEntropy())
    few = trained(tokenizer, tmp_path, UNDIAL(2.0), CrossEntropy(), reference_policy="top_k_logits", reference_top_k=1)
    assert 1e-6 < float((whole - few).abs().max()) < 0.1
    with pytest.raises(MisconfigurationError, match="must be >= 1, got 0"):
        trained(tokenizer, tmp_path, UNDIAL(2.0), CrossEntropy(), reference_top_k=0)


@pytest.mark.parametrize(
    ("objective", "name"), [(NPO(), "cached_log_probs"), (UNDIAL(), "frozen_copy")], ids=["npo", "undial"]
)
def test_the_choice_is_named_in_the_log(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    objective: Objective,
    name: str,
) -> None:
    with caplog.at_level(logging.INFO):
        trained(tokenizer, tmp_path, objective, CrossEntropy())
    assert f"reference of the forget stream: {name}" in caplog.text


def test_asking_without_adapters_trains_no_more_than_before(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, model_folder: Path
) -> None:
    source = PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2))
    module = UnlearningModule(source, NPO(0.5), CrossEntropy(), saliency=Saliency(modules=r"layers\.1\."))
    make_trainer(tmp_path, max_epochs=2).fit(module, datamodule=TinyDataModule(4))
    names = [name for name, parameter in module.network.named_parameters() if parameter.requires_grad]
    assert len(names) == 14 and all("layers.1." in name for name in names)


def test_an_adapter_that_hides_something_is_not_taken_off(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    network = get_peft_model(make_network(len(tokenizer)), LoraConfig(r=2, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    module = UnlearningModule(network, NPO(0.5), CrossEntropy(), tokenizer=tokenizer)  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match="would leak in; merge it first"):
        make_trainer(tmp_path).fit(module, datamodule=TinyDataModule(4))


def test_a_second_fit_starts_from_the_model_as_it_then_is(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = UnlearningModule(
        make_network(len(tokenizer)),
        NPO(0.5),
        CrossEntropy(),
        optimizer=partial(Sophia, lr=1e-2),
        curvature=GaussNewtonBartlett(interval_steps=2),
        tokenizer=tokenizer,
    )
    for _ in range(2):
        trainer = make_trainer(tmp_path, max_steps=1)
        trainer.fit(module, datamodule=TinyDataModule(4))
        # At θ = c every log-ratio is 0: the loss of the first step is (2/β) log 2.
        assert float(trainer.logged_metrics["train/forget_loss"]) == pytest.approx(4 * math.log(2), rel=1e-5)
        assert float(trainer.logged_metrics["curvature/norm"]) > 0


def test_a_checkpoint_with_another_policy_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def module(policy: Any) -> UnlearningModule:
        return UnlearningModule(
            make_network(len(tokenizer)), NPO(0.5), CrossEntropy(), reference_policy=policy, tokenizer=tokenizer
        )

    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module("cached_log_probs"), datamodule=TinyDataModule(4))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(MisconfigurationError, match="set reference_policy to what the checkpoint has"):
        make_trainer(tmp_path, max_epochs=2).fit(
            module("frozen_copy"), datamodule=TinyDataModule(4), ckpt_path=tmp_path / "one.ckpt", weights_only=True
        )


@pytest.mark.parametrize(("policy", "copies"), [("auto", 1), ("frozen_copy", 2)])
def test_without_adapters_there_is_no_second_model(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, model_folder: Path, policy: Any, copies: int
) -> None:
    """Memory holds the weights once; a copy, for comparison, would be found."""
    module = UnlearningModule(
        PretrainedNetwork(str(model_folder), lora=LoraSettings(r=2)),
        NPO(0.5),
        KLDivergence(),
        optimizer=partial(SGD, lr=0.1),
        reference_policy=policy,
    )
    gc.collect()
    before = {id(thing) for thing in gc.get_objects()}
    make_trainer(tmp_path, max_epochs=1).fit(module, datamodule=TinyDataModule(4))
    gc.collect()
    fresh = [thing for thing in gc.get_objects() if id(thing) not in before and isinstance(thing, torch.nn.Parameter)]
    frozen = {name: p for name, p in module.network.named_parameters() if "base_layer" in name}
    shapes = {parameter.shape for parameter in frozen.values()}
    stored = {parameter.data_ptr(): parameter.nbytes for parameter in fresh if parameter.shape in shapes}
    assert sum(stored.values()) == copies * sum(parameter.nbytes for parameter in frozen.values())
