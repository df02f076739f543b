"""The estimate is shown before the run, warns where memory is short, and changes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.optim import SGD
from transformers import PreTrainedTokenizerFast

from soul_lightning import UnlearningModule
from soul_lightning.callbacks import MemoryEstimator
from soul_lightning.objectives import NPO, CrossEntropy
from tests.conftest import TinyDataModule, make_network, make_trainer


def run(tokenizer: PreTrainedTokenizerFast, folder: Path, *callbacks: Any, **settings: Any) -> list[torch.Tensor]:
    module = UnlearningModule(
        make_network(len(tokenizer), dropout=0.2),
        NPO(0.5),
        CrossEntropy(),
        optimizer=partial(SGD, lr=0.1),
        tokenizer=tokenizer,
    )
    torch.manual_seed(0)
    make_trainer(folder, callbacks=list(callbacks), **settings).fit(module, datamodule=TinyDataModule(4))
    return [parameter.detach() for parameter in module.network.parameters()]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_table_stands_before_the_run_and_changes_nothing(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    estimator = MemoryEstimator()
    with_estimate = run(tokenizer, tmp_path, estimator, precision=precision)
    shown = capsys.readouterr()
    assert estimator.estimate is not None and estimator.estimate.total > 0
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert [name for name in ("weights", "optimizer states", "activations", "at once") if name not in shown.err] == []
    assert f"longest pass: 8 rows of up to {estimator.estimate.size.tokens} tokens" in shown.err
    assert max(map(len, lines)) <= 80
    for one, other in zip(with_estimate, run(tokenizer, tmp_path, precision=precision), strict=True):
        assert torch.equal(one, other)


def test_too_little_memory_is_said_before_the_run(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.warns(UserWarning, match=r"beyond the weights, and cpu has 0 MiB left; raise micro_batches"):
        run(tokenizer, tmp_path, MemoryEstimator())


def test_other_modules_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimator, foreign = MemoryEstimator(), BoringModel()
    assert isinstance(foreign, LightningModule)
    make_trainer(tmp_path, callbacks=[estimator], max_steps=1).fit(foreign)
    assert estimator.estimate is None
    assert "Memory" not in capsys.readouterr().err
