from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset
from transformers import PreTrainedTokenizerFast

from soul_lightning import UnlearningModule
from soul_lightning.callbacks import Bound, DivergenceGuard, Utility
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.objectives import CrossEntropy, GradientAscent
from tests.callbacks.tiny_models import RETAIN_PROBE
from tests.conftest import TinyDataModule, make_network, make_trainer


def rows(count: int) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.zeros(count)))


class Falls(LightningModule):
    """A foreign module of one weight: each step takes 1 from it, and the loss that is logged is its value."""

    def __init__(self, name: str = "loss") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(10.0))
        self.frozen = torch.nn.Parameter(torch.tensor(5.0), requires_grad=False)
        self.name = name

    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        self.log(self.name, self.weight)
        return self.weight * 1.0

    def configure_optimizers(self) -> SGD:
        return SGD([self.weight], lr=1.0)


class Ends(Callback):
    """Logs at epoch ends what the weight is, as callbacks that measure do, and keeps it."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = float(pl_module.get_parameter("weight"))
        self.seen.append(value)
        pl_module.log("measured", value)


def fall(folder: Path, *callbacks: Callback, steps_an_epoch: int = 4, **settings: Any) -> tuple[Falls, Trainer]:
    module = Falls()
    trainer = make_trainer(folder, max_epochs=4, callbacks=list(callbacks), **settings)
    trainer.fit(module, rows(steps_an_epoch))
    return module, trainer


def test_after_steps_the_weights_go_back_to_those_that_were_last_within_bounds(tmp_path: Path) -> None:
    guard = DivergenceGuard({"loss": Bound(below=6.5)}, every_n_steps=1)
    with pytest.warns(UserWarning, match=r"stops at optimizer step 5: loss = 6 is below 6.5; .* weights of step 3"):
        module, trainer = fall(tmp_path, guard)
    # Step 5 found the loss 6: of the weights after step 4. Those after step 3, at loss 7, were the last good ones.
    assert trainer.global_step == 5
    assert float(module.weight) == 7
    assert (guard.diverged_at_step, guard.kept_step) == (5, 3)
    assert guard.summary() == {"divergence_guard/diverged_at_step": 5, "divergence_guard/kept_step": 3}
    assert float(module.frozen) == 5


def test_checks_every_so_many_steps(tmp_path: Path) -> None:
    guard = DivergenceGuard({"loss": Bound(below=6.5)}, every_n_steps=3)
    with pytest.warns(UserWarning, match="step 6: loss = 5 is below"):
        module, _ = fall(tmp_path, guard)
    assert (float(module.weight), guard.kept_step) == (8, 2)


def test_at_epoch_ends_the_weights_are_those_that_were_measured(tmp_path: Path) -> None:
    ends, guard = Ends(), DivergenceGuard({"measured": Bound(below=0)})
    with pytest.warns(UserWarning, match=r"step 12: measured = -2 is below 0; .* of step 8"):
        module, trainer = fall(tmp_path, ends, guard)
    assert ends.seen == [6, 2, -2]
    assert float(module.weight) == 2
    assert trainer.current_epoch == 3


def test_a_run_within_bounds_is_left_alone(tmp_path: Path) -> None:
    guard = DivergenceGuard({"loss": Bound(below=-100, above=100)}, every_n_steps=1)
    module, trainer = fall(tmp_path, guard)
    assert (float(module.weight), trainer.global_step) == (-6, 16)
    assert guard.diverged_at_step is None
    assert guard.reason == ""


def test_out_of_bounds_from_the_start_keeps_the_model_as_it_came(tmp_path: Path) -> None:
    guard = DivergenceGuard({"loss": Bound(below=50)}, every_n_steps=1)
    with pytest.warns(UserWarning, match="weights of step 0"):
        module, _ = fall(tmp_path, guard)
    assert float(module.weight) == 10


@pytest.mark.parametrize(
    ("bound", "value", "told"),
    [
        (Bound(above=2), 3.0, "is above 2"),
        (Bound(above=2), 2.0, None),
        (Bound(below=-2), -3.0, "is below -2"),
        (Bound(times_start=1.5), 16.0, "is above 1.5 times its start, 10"),
        (Bound(times_start=1.5), 15.0, None),
        (Bound(above=2), math.nan, "is not finite"),
        (Bound(above=2), -math.inf, "is not finite"),
    ],
)
def test_bounds(bound: Bound, value: float, told: str | None) -> None:
    assert bound.broken_by(value, start=10.0) == told


def test_one_process_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def another(decision: bool, all: bool = True) -> bool:
        asked.append((decision, all))
        return len(asked) == 3

    guard = DivergenceGuard({"loss": Bound(below=-100)}, every_n_steps=1)
    module = Falls()
    trainer = make_trainer(tmp_path, callbacks=[guard])
    monkeypatch.setattr(trainer.strategy, "reduce_boolean_decision", another)
    with pytest.warns(UserWarning, match="step 3: a metric of another process is out of bounds"):
        trainer.fit(module, rows(8))
    assert asked == [(False, False)] * 3
    assert float(module.weight) == 9


def test_a_metric_that_nothing_logs_is_named(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"nothing logs 'los'; the metrics are loss"):
        fall(tmp_path, DivergenceGuard({"los": Bound(below=0)}))


def test_a_relative_bound_needs_a_positive_start(tmp_path: Path) -> None:
    class Negative(Ends):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.log("measured", -1.0)

    with pytest.raises(MisconfigurationError, match=r"measured began at -1; set above or below"):
        fall(tmp_path, Negative(), DivergenceGuard({"measured": Bound(times_start=2)}))


@pytest.mark.parametrize(
    "settings",
    [
        {"bounds": {}},
        {"bounds": {"loss": Bound()}},
        {"bounds": {"loss": Bound(times_start=1)}},
        {"bounds": {"loss": Bound(above=1)}, "every_n_steps": 0},
    ],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationError, match="DivergenceGuard"):
        DivergenceGuard(**settings)


def test_a_resumed_run_compares_with_the_first_start(tmp_path: Path) -> None:
    class Rises(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pl_module.log("perplexity", float(trainer.global_step))

    def run(epochs: int, checkpoint: Path | None) -> tuple[DivergenceGuard, Trainer]:
        guard = DivergenceGuard({"perplexity": Bound(times_start=3)})
        trainer = make_trainer(tmp_path, max_epochs=epochs, callbacks=[Rises(), guard])
        trainer.fit(Falls(), rows(4), ckpt_path=checkpoint)
        return guard, trainer

    _, trainer = run(2, None)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    assert torch.load(tmp_path / "two.ckpt", weights_only=True)["callbacks"]["DivergenceGuard[divergence_guard]"] == {
        "starts": {"perplexity": 4.0},
        "stop": (None, None, ""),
    }
    with pytest.warns(UserWarning, match="perplexity = 16 is above 3 times its start, 4"):
        resumed, _ = run(6, tmp_path / "two.ckpt")
    assert resumed.diverged_at_step == 16
    assert resumed.kept_step == 12


def test_gradient_ascent_ends_at_a_model_within_bounds(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """The forget loss is the negative of the NLL: a guess among the vocabulary's tokens has ln V."""
    uniform = math.log(len(tokenizer))
    network = make_network(len(tokenizer))
    module = UnlearningModule(
        network, GradientAscent(), CrossEntropy(), optimizer=partial(SGD, lr=2.0), tokenizer=tokenizer
    )
    bound = uniform + 0.5  # random weights begin at the guess
    utility = Utility(probes=[RETAIN_PROBE], answer=False)
    guards = [
        DivergenceGuard({"train/forget_loss": Bound(below=-bound)}, every_n_steps=1),
        DivergenceGuard({"utility/retain_perplexity": Bound(times_start=1000)}, name="retain"),
    ]
    trainer = make_trainer(tmp_path, max_epochs=20, callbacks=[utility, *guards])
    data = TinyDataModule(6, tokenizer=tokenizer)
    with pytest.warns(UserWarning, match="train/forget_loss = -.* is below"):
        trainer.fit(module, datamodule=data)
    assert guards[0].diverged_at_step is not None and guards[1].diverged_at_step is None
    assert guards[1]._starts["utility/retain_perplexity"] == pytest.approx(len(tokenizer), rel=0.1)
    batch = data.train_dataloader()
    (step,) = list(batch)
    with torch.no_grad():
        kept = float(module.term_loss("forget", step.batches["forget"])) / step.batches["forget"].labelled_tokens
    assert -bound <= kept < 0
    assert trainer.callback_metrics["train/forget_loss"] < -bound


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(tmp_path: Path) -> None:
    """Only the second one's loss is out of bounds, and the first one writes the model that it ends with."""
    trainer = make_trainer(
        tmp_path, max_epochs=4, devices=2, strategy="ddp_spawn",
        callbacks=[DivergenceGuard({"loss": Bound(above=100)}, every_n_steps=1), WritesWeight(tmp_path / "end.pt")],
    )  # fmt: skip
    trainer.fit(LiesOnTheSecond(), rows(8))
    ends = torch.load(tmp_path / "end.pt", weights_only=True)
    assert ends == {"step": 3, "weight": 9.0}


class LiesOnTheSecond(Falls):
    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", 1000.0 if self.global_rank == 1 and self.global_step == 2 else 1.0)
        return loss


class WritesWeight(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save({"step": trainer.global_step, "weight": float(pl_module.get_parameter("weight"))}, self.path)
