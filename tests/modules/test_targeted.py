from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD
from transformers import PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Sophia, TargetedUnlearningModule, UnlearningModule
from soul_lightning.cli.describing import describe
from soul_lightning.datamodules import TinyWorldDataModule
from soul_lightning.datamodules.task import Task
from soul_lightning.encoding import collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.targeted import Targeting
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.objectives import NPO, CrossEntropy, GradientAscent
from soul_lightning.protocols import Step
from tests.conftest import FORGET, PLAIN, TinyDataModule, as_examples, make_network, make_trainer


def build(tokenizer: PreTrainedTokenizerFast, targeting: Targeting, **settings: Any) -> TargetedUnlearningModule:
    options: dict[str, Any] = {
        "forget": GradientAscent(), "retain": CrossEntropy(), "optimizer": partial(SGD, lr=0.1), "max_grad_norm": None,
    }  # fmt: skip
    return TargetedUnlearningModule(
        make_network(len(tokenizer)), targeting, tokenizer=tokenizer, **(options | settings)
    )


class Chosen(TinyDataModule):
    """Some of the forget rows."""

    def __init__(self, kept: list[int], batch_size: int) -> None:
        super().__init__(batch_size)
        self.kept = kept

    def load(self) -> Task:
        task = super().load()
        forget = [row for row in task.streams["forget"] if row.index in self.kept]
        return replace(task, streams={**task.streams, "forget": forget})


def test_training_is_that_on_the_chosen_rows_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    targeted = build(tokenizer, Targeting(share=0.5), micro_batches=2)
    plain = UnlearningModule(
        make_network(len(tokenizer)), GradientAscent(), CrossEntropy(), optimizer=partial(SGD, lr=0.1),
        max_grad_norm=None, tokenizer=tokenizer,
    )  # fmt: skip
    make_trainer(tmp_path, max_epochs=3).fit(targeted, datamodule=TinyDataModule(8))
    assert len(targeted.influences) == 6
    kept = sorted(targeted.influences, key=lambda index: -targeted.influences[index])[:3]
    make_trainer(tmp_path, max_epochs=3).fit(plain, datamodule=Chosen(kept, 8))
    torch.testing.assert_close(
        parameters_to_vector(targeted.network.parameters()), parameters_to_vector(plain.network.parameters())
    )


def test_the_request_of_a_step_stays(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Step] = []
    monkeypatch.setattr(UnlearningModule, "training_step", lambda _module, step, _place: seen.append(step))
    batch = collate(encode(as_examples(FORGET), tokenizer, PLAIN, 32), 0)
    build(tokenizer, Targeting()).training_step(Step({"forget": batch}, request=2), 0)
    assert [step.request for step in seen] == [2]


def test_a_step_without_a_chosen_row_trains_on_retain(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = build(
        tokenizer, Targeting(share=0.1), forget=NPO(),
        optimizer=partial(Sophia, lr=1e-3), curvature=GaussNewtonBartlett(1, source="both"),
    )  # fmt: skip
    before = parameters_to_vector(module.network.parameters()).clone()
    make_trainer(tmp_path).fit(module, datamodule=TinyDataModule(1))  # six steps, one of them with the chosen row
    assert module.global_step == 6
    assert module.rows_seen == 7
    assert module.guard.skipped == 0
    assert not torch.equal(before, parameters_to_vector(module.network.parameters()))


def test_a_resumed_run_keeps_its_choice(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole = build(tokenizer, Targeting(share=0.5))
    make_trainer(tmp_path, max_epochs=4).fit(whole, datamodule=TinyDataModule())
    first = build(tokenizer, Targeting(share=0.5))
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(first, datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = build(tokenizer, Targeting(share=0.5))
    make_trainer(tmp_path, max_epochs=4).fit(
        second, datamodule=TinyDataModule(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert second.influences == {}
    assert torch.equal(
        parameters_to_vector(whole.network.parameters()), parameters_to_vector(second.network.parameters())
    )
    plain = UnlearningModule(
        make_network(len(tokenizer)), GradientAscent(), CrossEntropy(), optimizer=partial(SGD, lr=0.1),
        tokenizer=tokenizer,
    )  # fmt: skip
    trainer = make_trainer(tmp_path)
    trainer.fit(plain, datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(MisconfigurationError, match="at step 2 holds no choice of forget rows"):
        make_trainer(tmp_path, max_epochs=2).fit(
            build(tokenizer, Targeting()), datamodule=TinyDataModule(), ckpt_path=tmp_path / "plain.ckpt",
            weights_only=True,
        )  # fmt: skip


class SomeFacts(TinyWorldDataModule):
    """The packaged corruption, of which the lies about two relations of two of four people are asked about."""

    asked = frozenset({"instrument", "dish"})

    def load(self) -> Task:
        task = super().load()
        probes = [
            replace(probe, examples=[row for row in probe.examples if self.is_asked(row.subject, row.relation)])
            if probe.name == "corrupted" else probe
            for probe in task.probes
        ]  # fmt: skip
        return replace(task, probes=probes)

    def is_asked(self, subject: str | None, relation: str | None) -> bool:
        return subject in self.story.corrupted[:2] and relation in self.asked


@pytest.mark.slow
def test_rows_that_state_what_is_asked_are_found(tmp_path: Path) -> None:
    module = TargetedUnlearningModule(
        PretrainedNetwork("packaged:tiny_world/corrupted"), Targeting(), forget=GradientAscent(), retain=CrossEntropy(),
        optimizer=partial(SGD, lr=0.0),
    )  # fmt: skip
    data = SomeFacts(corrupted_people=4)
    make_trainer(tmp_path, max_steps=1, max_epochs=-1).fit(module, datamodule=data)
    rows = data.loaded.streams["forget"]
    states = [data.is_asked(row.subject, row.relation) for row in rows]
    assert sum(states) == 2 * 2 * 5
    assert roc_auc_score(states, [module.influences[row.index] for row in rows]) > 0.9


def test_it_is_set_from_yaml(tmp_path: Path) -> None:
    network = "{pretrained_model_name_or_path: 'packaged:tiny_world/corrupted'}"
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"model: {{class_path: TargetedUnlearningModule, init_args: {{network: {network}, forget_weight: 0.5, "
        "targeting: {share: 0.2, damping: 0.5}, forget: {class_path: NPO}, retain: {class_path: CrossEntropy}}}\n"
        "data: {class_path: TinyWorldDataModule}\n"
    )
    assert describe(["--config", str(path)], "mine").streams[0].rows == 360
    with pytest.raises(MisconfigurationError, match="share must lie in"):
        describe(["--config", str(path), "--model.init_args.targeting.share=0"], "mine")


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.1}, {"damping": 0.0}, {"retain_batches": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationError, match="targeting: share must lie in"):
        Targeting(**settings)


def test_what_cannot_be_scored_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match="there is no forget objective; give one"):
        build(tokenizer, Targeting(), forget=None)
    with pytest.raises(MisconfigurationError, match=r"targeting\.probe='lies' is none of .* corrupted, control"):
        make_trainer(tmp_path).fit(build(tokenizer, Targeting(probe="lies")), datamodule=TinyDataModule())

    class WithoutLies(TinyDataModule):
        def load(self) -> Task:
            task = super().load()
            probes = [
                replace(probe, examples=[replace(row, perturbed=()) for row in probe.examples]) for probe in task.probes
            ]
            return replace(task, probes=probes)

    with pytest.raises(MisconfigurationError, match="the probe corrupted bring no false answers"):
        make_trainer(tmp_path).fit(build(tokenizer, Targeting()), datamodule=WithoutLies())
    make_trainer(tmp_path).fit(build(tokenizer, Targeting(probe="forget")), datamodule=WithoutLies())
    data = TinyDataModule(tokenizer=tokenizer)
    with pytest.raises(MisconfigurationError, match="NoneType does not give both"):
        make_trainer(tmp_path).fit(build(tokenizer, Targeting()), train_dataloaders=data.train_dataloader())
