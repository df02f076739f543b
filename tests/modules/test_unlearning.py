from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning import FinetuningModule, GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.networks.predictions import Predictions, Reference
from soul_lightning.objectives import NPO, CrossEntropy, GradientAscent, KLDivergence, Objective
from soul_lightning.schedules import LearningRateSchedule, LinearWeight
from tests.conftest import TinyDataModule, make_network, make_trainer


def train(
    module: FinetuningModule | UnlearningModule, folder: Path, batch_size: int = 4, **settings: Any
) -> dict[str, torch.Tensor]:
    trainer = make_trainer(folder, **settings)
    trainer.fit(module, datamodule=TinyDataModule(batch_size))
    return {name: value.clone() for name, value in module.network.state_dict().items()}


def largest_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    return max(float((left[name] - right[name]).abs().max()) for name in left)


SGD_STEP = partial(SGD, lr=0.05)


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_micro_batches_change_nothing_but_memory(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, level: Any
) -> None:
    results = []
    for parts in (1, 2, 4):
        module = UnlearningModule(
            make_network(len(tokenizer)),
            NPO(0.5, level),
            CrossEntropy(),
            retain_weight=2.0,
            optimizer=SGD_STEP,
            micro_batches=parts,
            max_grad_norm=None,
            tokenizer=tokenizer,
        )
        results.append(train(module, tmp_path, max_epochs=2))
    assert largest_difference(results[0], results[1]) < 1e-6
    assert largest_difference(results[0], results[2]) < 1e-6


def test_batch_level_npo_depends_on_the_cut_by_definition(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    results = []
    for parts in (1, 4):
        module = UnlearningModule(
            make_network(len(tokenizer)),
            NPO(0.5, "batch"),
            optimizer=SGD_STEP,
            micro_batches=parts,
            max_grad_norm=None,
            tokenizer=tokenizer,
        )
        results.append(train(module, tmp_path, max_epochs=2))
    assert largest_difference(*results) > 1e-5


def test_one_step_equals_the_gradient_written_out_by_hand(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    network = make_network(len(tokenizer))
    expected = copy.deepcopy(network)
    module = UnlearningModule(
        network,
        GradientAscent(),
        CrossEntropy(),
        forget_weight=0.5,
        retain_weight=3.0,
        optimizer=SGD_STEP,
        max_grad_norm=None,
        micro_batches=2,
        tokenizer=tokenizer,
    )
    trained = train(module, tmp_path, batch_size=8, max_steps=1)

    data = TinyDataModule(8, tokenizer=tokenizer)
    data.setup()
    losses = {}
    for name in ("forget", "retain"):
        (batch,) = list(data.stream(name))
        logits = expected(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1]
        losses[name] = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten())
    total: torch.Tensor = -0.5 * losses["forget"] + 3.0 * losses["retain"]
    total.backward()
    with torch.no_grad():
        for parameter in expected.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.05 * parameter.grad)
    assert largest_difference(trained, dict(expected.state_dict())) < 1e-6


def test_refresh_with_micro_batches_gives_the_same_trajectory(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    results = []
    for parts in (1, 3):
        module = UnlearningModule(
            make_network(len(tokenizer)),
            NPO(0.5, "token"),
            CrossEntropy(),
            optimizer=partial(Sophia, lr=1e-3, rho=0.4),
            curvature=GaussNewtonBartlett(interval_steps=2, source="both"),
            micro_batches=parts,
            tokenizer=tokenizer,
        )
        results.append(train(module, tmp_path, max_epochs=3))
    # An update is a ratio of two sums; where both are near 0, rounding moves it by more than it moves a gradient.
    assert largest_difference(*results) < 1e-4


def test_the_refresh_hands_over_n_times_the_squared_mean_gradient(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    network = make_network(len(tokenizer))
    twin = copy.deepcopy(network)
    curvature = GaussNewtonBartlett(interval_steps=1, source="retain", seed=3)
    module = UnlearningModule(
        network,
        GradientAscent(),
        CrossEntropy(),
        optimizer=partial(Sophia, lr=0.0),
        curvature=curvature,
        tokenizer=tokenizer,
    )
    train(module, tmp_path, batch_size=8, max_steps=1)
    optimizer = module.optimizers()
    assert not isinstance(optimizer, list)

    data = TinyDataModule(8, tokenizer=tokenizer)
    data.setup()
    (batch,) = list(data.stream("retain"))
    logits = twin(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    predictions = Predictions.from_logits(logits, batch.labels)
    tokens = predictions.labelled_tokens
    (curvature.surrogate(predictions, batch.index, step=0) / tokens).backward()
    for trained, parameter in zip(network.parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(optimizer.state[trained]["curvature"], tokens * parameter.grad**2)


def test_every_refresh_sees_the_curvature_gradient_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """At rate 0 the model stands still: the h of each step is that step's own estimate."""
    network = make_network(len(tokenizer))
    twin = copy.deepcopy(network)
    curvature = GaussNewtonBartlett(interval_steps=1, source="retain", seed=3)
    module = UnlearningModule(
        network,
        GradientAscent(),
        CrossEntropy(),
        optimizer=partial(Sophia, lr=0.0, betas=(0.9, 0.0)),
        curvature=curvature,
        tokenizer=tokenizer,
    )
    train(module, tmp_path, batch_size=8, max_epochs=3)
    optimizer = module.optimizers()
    assert not isinstance(optimizer, list) and module.global_step == 3

    data = TinyDataModule(8, tokenizer=tokenizer)
    data.setup()
    (batch,) = list(data.stream("retain"))
    predictions = Predictions.from_logits(
        twin(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits, batch.labels
    )
    tokens = predictions.labelled_tokens
    (curvature.surrogate(predictions, batch.index, step=2) / tokens).backward()
    for trained, parameter in zip(network.parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(optimizer.state[trained]["curvature"], tokens * parameter.grad**2)


def test_same_seed_same_weights(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        module = UnlearningModule(
            make_network(len(tokenizer), dropout=0.1),
            NPO(),
            KLDivergence(),
            optimizer=partial(Sophia, lr=1e-3),
            curvature=GaussNewtonBartlett(interval_steps=2),
            tokenizer=tokenizer,
        )
        torch.manual_seed(7)
        results.append(train(module, tmp_path, max_epochs=2))
    assert largest_difference(*results) == 0.0


@pytest.mark.parametrize("curvature", [None, GaussNewtonBartlett(interval_steps=3), GaussNewtonBartlett(2)])
def test_a_resumed_run_ends_where_an_unbroken_one_ends(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, curvature: GaussNewtonBartlett | None
) -> None:
    def build() -> UnlearningModule:
        return UnlearningModule(
            make_network(len(tokenizer), dropout=0.1),
            NPO(0.5),
            KLDivergence(),
            optimizer=partial(AdamW, lr=1e-2) if curvature is None else partial(Sophia, lr=1e-3, rho=0.4),
            curvature=curvature,
            tokenizer=tokenizer,
        )

    torch.manual_seed(5)
    whole = train(build(), tmp_path, max_epochs=4)
    torch.manual_seed(5)
    half = build()
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(half, datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(6)
    resumed = build()
    make_trainer(tmp_path, max_epochs=4).fit(
        resumed, datamodule=TinyDataModule(), ckpt_path=str(tmp_path / "half.ckpt")
    )
    assert largest_difference(whole, dict(resumed.network.state_dict())) == 0.0


def test_a_resume_without_a_stored_reference_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def build(forget: Objective) -> UnlearningModule:
        network = make_network(len(tokenizer))
        return UnlearningModule(network, forget, CrossEntropy(), optimizer=SGD_STEP, tokenizer=tokenizer)

    trainer = make_trainer(tmp_path)
    trainer.fit(build(GradientAscent()), datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    with pytest.raises(MisconfigurationError, match="step 2 holds no reference for the forget objective NPO"):
        make_trainer(tmp_path, max_epochs=2).fit(
            build(NPO()), datamodule=TinyDataModule(), ckpt_path=str(tmp_path / "half.ckpt")
        )


def test_a_step_in_which_a_stream_has_no_label_trains_on_the_other(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    class Unlabelled(TinyDataModule):
        def setup(self, stage: str = "fit") -> None:
            super().setup(stage)
            self._encoded["forget"] = [replace(row, prompt_tokens=len(row)) for row in self._encoded["forget"]]

    weights = []
    for forget in (NPO(0.5, "token"), None):
        module = UnlearningModule(
            make_network(len(tokenizer)),
            forget,
            CrossEntropy(),
            optimizer=partial(Sophia, lr=1e-3),
            curvature=GaussNewtonBartlett(interval_steps=1, source="both"),
            tokenizer=tokenizer,
        )
        make_trainer(tmp_path).fit(module, datamodule=Unlabelled())
        weights.append(dict(module.network.state_dict()))
    assert largest_difference(*weights) == 0.0


def test_the_logged_losses_are_those_of_the_whole_step(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    network = make_network(len(tokenizer))
    module = UnlearningModule(
        network,
        NPO(0.5, "token"),
        CrossEntropy(),
        retain_weight=2.0,
        optimizer=SGD_STEP,
        micro_batches=3,
        tokenizer=tokenizer,
    )
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.fit(module, datamodule=TinyDataModule(8))
    # θ is c at the first step: every log-ratio is 0 and NPO is (2/β) log 2.
    assert float(trainer.logged_metrics["train/forget_loss"]) == pytest.approx(4 * torch.log(torch.tensor(2.0)).item())
    expected = float(trainer.logged_metrics["train/forget_loss"]) + 2 * float(
        trainer.logged_metrics["train/retain_loss"]
    )
    assert float(trainer.logged_metrics["train/loss"]) == pytest.approx(expected, rel=1e-5)
    assert trainer.global_step == 1


def test_schedules_of_weights_and_of_the_learning_rate(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = UnlearningModule(
        make_network(len(tokenizer)),
        GradientAscent(),
        CrossEntropy(),
        forget_weight=LinearWeight(1.0, 0.0),
        optimizer=partial(SGD, lr=1.0),
        lr_scheduler=LearningRateSchedule("linear", warmup_steps=1),
        tokenizer=tokenizer,
    )
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, datamodule=TinyDataModule(4))
    assert module.total_steps == 4
    assert module.term_weights(0.25) == {"forget": 0.75, "retain": 1.0}
    # One warm-up step of 1/2, then 1, 2/3, 1/3 of the peak rate.
    logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
    assert logged["train/learning_rate"] == pytest.approx(1 / 3)
    # The last of four steps is taken at progress 3/4.
    assert logged["train/loss"] == pytest.approx(0.25 * logged["train/forget_loss"] + logged["train/retain_loss"])


class Poisonous(Objective):
    """Gives a NaN, or an infinity whose gradient is finite, at the steps it is told to."""

    def __init__(self, bad_steps: set[int], infinite: bool = False) -> None:
        self.bad_steps = bad_steps
        self.infinite = infinite
        self.calls = 0

    def summed(self, predictions: Predictions, reference: Reference | None = None) -> torch.Tensor:
        self.calls += 1
        loss = -predictions.log_probs.sum()
        if self.calls - 1 not in self.bad_steps:
            return loss
        return loss + float("inf") if self.infinite else loss * float("nan")


@pytest.mark.parametrize("infinite", [False, True])
def test_a_non_finite_step_is_skipped_and_counted(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, infinite: bool
) -> None:
    objective = Poisonous({1}, infinite)
    module = UnlearningModule(
        make_network(len(tokenizer)), objective, optimizer=SGD_STEP, max_grad_norm=1.0, tokenizer=tokenizer
    )
    with pytest.warns(UserWarning, match="optimizer step 1 is skipped"):
        weights = train(module, tmp_path, max_epochs=2)
    assert module.guard.skipped == 1
    assert module.global_step == 3
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


def test_a_last_step_that_is_skipped_is_in_the_counts(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = UnlearningModule(
        make_network(len(tokenizer)), Poisonous({1, 3}), optimizer=SGD_STEP, max_grad_norm=1.0, tokenizer=tokenizer
    )
    with pytest.warns(UserWarning, match="is skipped"):
        train(module, tmp_path, max_epochs=2)
    counts = module.trainer.callback_metrics
    assert [float(counts[f"train/{name}"]) for name in ("skipped_steps", "skipped_in_a_row")] == [2, 1]
    assert module.global_step == 2
    assert counts["train/rows"] == module.rows_seen > 0


def test_too_many_non_finite_steps_stop_the_run(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = UnlearningModule(
        make_network(len(tokenizer)),
        Poisonous(set(range(9))),
        optimizer=SGD_STEP,
        max_skipped_steps=1,
        tokenizer=tokenizer,
    )
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(TrainingDivergedError, match="2 optimizer steps"):
        train(module, tmp_path, max_epochs=9)


def test_finetuning_learns_the_streams_it_is_given(
    tokenizer: PreTrainedTokenizerFast, tiny_network: LlamaForCausalLM, tmp_path: Path
) -> None:
    module = FinetuningModule(
        tiny_network, {"forget": 1.0, "retain": 1.0}, optimizer=partial(AdamW, lr=3e-3), tokenizer=tokenizer
    )
    trainer = make_trainer(tmp_path, max_epochs=60)
    trainer.fit(module, datamodule=TinyDataModule())
    assert float(trainer.logged_metrics["train/forget_loss"]) < 0.3
    assert float(trainer.logged_metrics["train/retain_loss"]) < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"micro_batches": 0}, "micro_batches must be >= 1, got 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be above 0"),
        ({"forget": None, "retain": None}, "nothing to train"),
    ],
)
def test_settings_out_of_range_are_refused(
    tiny_network: LlamaForCausalLM, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        UnlearningModule(tiny_network, **({"forget": NPO(), "retain": CrossEntropy()} | settings))


def test_wrong_pairs_are_refused_in_one_sentence(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def build(**settings: Any) -> UnlearningModule:
        return UnlearningModule(make_network(len(tokenizer)), NPO(), CrossEntropy(), tokenizer=tokenizer, **settings)

    with pytest.raises(MisconfigurationError, match="first-order optimizer AdamW"):
        train(build(curvature=GaussNewtonBartlett()), tmp_path)
    with pytest.warns(UserWarning, match="Sophia without a curvature takes a sign step"):
        train(build(optimizer=partial(Sophia, lr=1e-5)), tmp_path)
    with pytest.raises(MisconfigurationError, match="a run without an end"):
        train(build(), tmp_path, max_epochs=-1)
    with pytest.raises(MisconfigurationError, match=r"bf16-true. is not supported"):
        train(build(), tmp_path, precision="bf16-true")
    half = build()
    half.network.bfloat16()
    with pytest.raises(MisconfigurationError, match=r"keep network.dtype float32"):
        train(half, tmp_path)
    with pytest.raises(MisconfigurationError, match="supplies the streams retain"):
        make_trainer(tmp_path).fit(build(), datamodule=TinyDataModule(streams=("retain",)))


def test_bf16_mixed_trains_float32_weights(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    module = UnlearningModule(
        make_network(len(tokenizer)),
        NPO(0.5, "token"),
        KLDivergence(),
        optimizer=partial(Sophia, lr=1e-4),
        curvature=GaussNewtonBartlett(interval_steps=1),
        tokenizer=tokenizer,
    )
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    after = train(module, tmp_path, precision="bf16-mixed")
    assert all(value.dtype == torch.float32 for value in after.values())
    assert 0 < largest_difference(before, after) < 1e-2
