"""The monitor sees what Sophia does in any project, and leaves no trace there."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from soul_lightning import GaussNewtonBartlett, Sophia, UnlearningModule
from soul_lightning.callbacks import CurvatureMonitor, curvature_monitor
from soul_lightning.callbacks.curvature_monitor import StepTimes
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.objectives import CrossEntropy, GradientAscent
from soul_lightning.optim.sophia import CurvatureStatistics
from tests.conftest import TinyDataModule, make_network, make_trainer

NAMES = {f"curvature/{name}" for name in ("win_rate", "clip_rate", "norm", "sum_ratio", "refresh_time_share")}


class Regression(LightningModule):
    """Somebody's own module: a linear map with dropout, stepped by Sophia, refreshed every second step."""

    def __init__(self, interval: int = 2, **sophia: Any) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.unused = torch.nn.Parameter(torch.ones(2))  # has no gradient, and no state in the optimizer
        self.interval = interval
        self.sophia: dict[str, Any] = {"lr": 1e-2, "rho": 1.0, "betas": (0.9, 0.95)} | sophia
        self.folded: list[CurvatureStatistics] = []
        self.win_rates: list[float] = []

    def loss(self, batch: torch.Tensor) -> torch.Tensor:
        kept = torch.nn.functional.dropout(batch, 0.2)
        loss: torch.Tensor = (self.layer(kept) - batch[:, :2]).square().mean()
        return loss

    def refresh_when_due(self, batch: torch.Tensor, optimizer: Sophia, number: int) -> None:
        if number % self.interval == 0:
            optimizer.zero_grad()
            self.loss(batch).backward()
            self.folded.append(optimizer.update_curvature(float(len(batch))))

    def sophia_over(self, *layers: torch.nn.Module) -> Sophia:
        return Sophia([value for layer in layers for value in layer.parameters()], **self.sophia)

    def configure_optimizers(self) -> Any:
        return self.sophia_over(self)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        rows: Any = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
        return DataLoader(rows, batch_size=4, shuffle=True)  # six batches


class Automatic(Regression):
    """Refreshes inside of `training_step`, before Lightning's own backward pass."""

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.refresh_when_due(batch, self.trainer.optimizers[0], self.global_step)  # type: ignore[arg-type]
        return self.loss(batch)


class Manual(Regression):
    """Steps and refreshes through Lightning's wrapper of the optimizer."""

    def __init__(self, interval: int = 2, **sophia: Any) -> None:
        super().__init__(interval, **sophia)
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self.refresh_when_due(batch, optimizer, self.global_step)  # type: ignore[arg-type]
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()
        self.win_rates.append(optimizer.win_rate)


def fit(folder: Path, module: LightningModule, *callbacks: Callback, **settings: Any) -> Trainer:
    torch.manual_seed(0)
    trainer = make_trainer(folder, callbacks=list(callbacks), logger=CSVLogger(folder), **settings)
    trainer.fit(module)
    return trainer


def logged(trainer: Trainer) -> list[dict[str, float]]:
    """What stands in the log at each optimizer step, without the empty cells."""
    with (Path(trainer.loggers[0].log_dir or "") / "metrics.csv").open(newline="") as file:
        rows = [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
    return [row for row in rows if any(name.startswith("curvature") for name in row)]


@pytest.mark.parametrize("init", ["first", "zero"])
@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_what_is_logged_is_what_the_optimizer_did(tmp_path: Path, kind: type[Regression], init: str) -> None:
    module = kind(curvature_init=init)
    trainer = fit(tmp_path, module, CurvatureMonitor(), max_epochs=2)
    rows = logged(trainer)
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert NAMES <= set(rows[-1])
    assert len(module.folded) == 6
    for number, row in enumerate(rows):
        folded = module.folded[number // 2]
        assert row["curvature/norm"] == pytest.approx(folded.norm, rel=1e-5)
        assert row["curvature/sum_ratio"] == pytest.approx(folded.sum_ratio, rel=1e-4)
        assert row["curvature/win_rate"] + row["curvature/clip_rate"] == pytest.approx(1)
    assert len({folded.sum_ratio for folded in module.folded}) > 4
    if module.win_rates:
        assert [row["curvature/win_rate"] for row in rows] == pytest.approx(module.win_rates)
        assert len(set(module.win_rates)) > 1


@pytest.mark.parametrize("kind", [Automatic, Manual])
def test_training_is_bitwise_the_same_with_and_without(tmp_path: Path, kind: type[Regression]) -> None:
    found = []
    for callbacks in ([], [CurvatureMonitor()]):
        torch.manual_seed(1)
        module = kind()
        trainer = fit(tmp_path, module, *callbacks, max_epochs=2)
        states = trainer.optimizers[0].state_dict()["state"]
        values = [torch.as_tensor(value) for state in states.values() for value in state.values()]
        found.append([*module.parameters(), *values, torch.tensor(sorted(states)), torch.get_rng_state()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_metrics_reach_checkpoints(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "kept", monitor="curvature/norm", every_n_train_steps=1, save_top_k=1)
    trainer = fit(tmp_path, Manual(), CurvatureMonitor(), best, enable_checkpointing=True)
    assert best.best_model_score == pytest.approx(min(row["curvature/norm"] for row in logged(trainer)))
    assert NAMES <= set(trainer.callback_metrics)


@pytest.mark.parametrize(
    ("kind", "every", "settings", "steps"),
    [
        (Manual, 4, {}, [4, 8, 12]),
        (Automatic, 1, {"accumulate_grad_batches": 3}, [1, 2, 3, 4]),
        (Automatic, 3, {"accumulate_grad_batches": 2}, [3, 6]),
    ],
)
def test_due_steps_are_optimizer_steps(
    tmp_path: Path, kind: type[Regression], every: int, settings: dict[str, Any], steps: list[int]
) -> None:
    trainer = fit(tmp_path, kind(), CurvatureMonitor(every), max_epochs=2, **settings)
    assert [row["step"] for row in logged(trainer)] == steps


class Several(Regression):
    """An AdamW and two Sophias; the last steps in every second batch only."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = torch.nn.Linear(3, 2)
        self.third = torch.nn.Linear(3, 2)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        adam, first, second = optimizers
        loss = self.loss(batch) + sum(layer(batch).square().mean() for layer in (self.other, self.third))
        self.manual_backward(loss)
        first.optimizer.update_curvature(1.0)
        adam.step()
        self.manual_backward(self.other(batch).square().mean())
        first.step()
        if batch_idx % 2:
            second.step()

    def configure_optimizers(self) -> Any:
        adam = torch.optim.AdamW(self.layer.parameters())
        return [adam, self.sophia_over(self.other), self.sophia_over(self.third)], []


def test_several_optimizers_have_groups_of_their_own(tmp_path: Path) -> None:
    trainer = fit(tmp_path, Several(), CurvatureMonitor())
    rows = logged(trainer)
    assert [row["step"] for row in rows] == [2, 5, 7, 10, 12, 15]
    one = {f"curvature/optimizer_1/{name}" for name in ("win_rate", "clip_rate", "norm", "sum_ratio")}
    assert one <= set(rows[0])
    assert not any("optimizer_2" in name or "optimizer_0" in name for name in rows[0])  # it has not stepped yet
    assert rows[1]["curvature/optimizer_2/win_rate"] == 0  # no curvature: a sign step
    assert "curvature/optimizer_2/norm" not in trainer.callback_metrics


def test_without_a_sophia_nothing_is_trained(tmp_path: Path) -> None:
    class WithAdam(Automatic):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            raise AssertionError("trained")

    with pytest.raises(MisconfigurationError, match=r"no Sophia among the optimizers \(there are: AdamW\)"):
        fit(tmp_path, WithAdam(), CurvatureMonitor())


@pytest.mark.parametrize("has_curvature", [True, False])
def test_what_the_module_logs_itself_is_not_logged_twice(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, has_curvature: bool
) -> None:
    found = []
    for callbacks in ([], [CurvatureMonitor()]):
        module = UnlearningModule(
            make_network(len(tokenizer)), GradientAscent(), CrossEntropy(), optimizer=partial(Sophia, lr=1e-4),
            curvature=GaussNewtonBartlett(1) if has_curvature else None, tokenizer=tokenizer,
        )  # fmt: skip
        trainer = make_trainer(tmp_path, callbacks=callbacks, logger=CSVLogger(tmp_path), log_every_n_steps=1)
        trainer.fit(module, datamodule=TinyDataModule())
        found.append(logged(trainer))
    without, with_monitor = found
    names = [{name for row in rows for name in row if name.startswith("curvature/")} for rows in found]
    assert len(with_monitor) == 2
    if has_curvature:
        assert NAMES <= names[0] == names[1]
        assert len(without) == 2
    else:
        assert (names[0], names[1]) == (set(), {"curvature/win_rate", "curvature/clip_rate"})


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    def checkpointed() -> tuple[CurvatureMonitor, ModelCheckpoint]:
        return CurvatureMonitor(4), ModelCheckpoint(tmp_path / "kept", filename="{step}")

    whole = fit(tmp_path, Manual(interval=5), CurvatureMonitor(4), max_epochs=2)
    before, keep = checkpointed()
    first = fit(tmp_path, Manual(interval=5), before, keep, max_epochs=1, enable_checkpointing=True)
    assert [row["step"] for row in logged(first)] == [4]
    after = CurvatureMonitor(4)
    trainer = make_trainer(tmp_path, callbacks=[after], logger=CSVLogger(tmp_path), max_epochs=2)
    trainer.fit(Manual(interval=5), ckpt_path=tmp_path / "kept" / "step=6.ckpt", weights_only=True)
    assert [row["step"] for row in logged(trainer)] == [8, 12]
    assert after.state_dict()["steps"] == 12
    assert sum(after.state_dict()["times"][f"{kind}_steps"] for kind in ("plain", "refresh")) == 10  # 5 after a warm-up
    assert NAMES <= set(logged(trainer)[0]) == set(logged(whole)[1])


class Clock:
    """Stands still unless it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(Manual):
    """A step takes 1 s, its refresh 3 s, the very first step 50 s; between batches 100 s go by."""

    def __init__(self, clock: Clock, inside: bool) -> None:
        super().__init__()
        self.clock = clock
        self.inside = inside

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.clock.now += 1 if self.global_step else 50
        super().training_step(batch, batch_idx)

    def refresh_when_due(self, batch: torch.Tensor, optimizer: Sophia, number: int) -> None:
        if self.inside:
            super().refresh_when_due(batch, optimizer, number)
            self.clock.now += 3 if number % 2 == 0 else 0

    def on_train_batch_end(self, outputs: Any, batch: torch.Tensor, batch_idx: int) -> None:
        if not self.inside:
            super().refresh_when_due(batch, self.trainer.optimizers[0], self.global_step)  # type: ignore[arg-type]
        self.clock.now += 100


def test_the_time_share_is_what_refreshes_took_beyond_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(curvature_monitor, "perf_counter", clock)
    rows = logged(fit(tmp_path, Timed(clock, inside=True), CurvatureMonitor()))
    shares = [row.get("curvature/refresh_time_share") for row in rows]
    # Steps 1 to 5 take 1, 4, 1, 4, 1 s; the step before them, which warms up, is not counted.
    assert shares == [None, None, *map(pytest.approx, (3 / 5, 3 / 6, 6 / 10, 6 / 11))]


def test_a_refresh_between_batches_is_read_and_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(curvature_monitor, "perf_counter", clock)
    module = Timed(clock, inside=False)
    rows = logged(fit(tmp_path, module, CurvatureMonitor(), max_epochs=1))
    assert not any("curvature/refresh_time_share" in row for row in rows)
    assert rows[-1]["curvature/sum_ratio"] == pytest.approx(module.folded[-2].sum_ratio, rel=1e-4)


def test_step_times_by_hand() -> None:
    times = StepTimes()
    times.add(2.0, refreshed=False)
    assert times.refresh_share is None
    times.add(4.0, refreshed=False)
    times.add(6.0, refreshed=True)
    assert times.refresh_share == pytest.approx((6 - 3) / 12)
    assert StepTimes(1, 5.0, 1, 4.0).refresh_share == 0
    assert StepTimes(0, 0.0, 2, 4.0).refresh_share is None


@pytest.mark.parametrize("breaks", [False, True])
def test_afterwards_the_optimizer_is_let_go(tmp_path: Path, breaks: bool) -> None:
    class Breaking(Manual):
        def on_train_epoch_end(self) -> None:
            if breaks:
                raise RuntimeError("broken off")

    module, monitor = Breaking(), CurvatureMonitor()
    if breaks:
        with pytest.raises(RuntimeError, match="broken off"):
            fit(tmp_path, module, monitor)
    else:
        fit(tmp_path, module, monitor)
    assert not module.trainer.optimizers[0]._optimizer_step_post_hooks
    assert monitor.summary()["curvature/win_rate"] is not None


def test_the_command_line_can_make_it() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Callback, "callback")
    config = {"class_path": "soul_lightning.callbacks.CurvatureMonitor", "init_args": {"every_n_steps": 5}}
    made = parser.instantiate_classes(parser.parse_object({"callback": config})).callback
    assert isinstance(made, CurvatureMonitor) and made.every_n_steps == 5
    with pytest.raises(MisconfigurationError, match="every_n_steps must be >= 1, got 0"):
        CurvatureMonitor(0)
