"""Models beside the one that trains are asked once, however often a run is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
from transformers import PreTrainedTokenizerFast

from soul_lightning.callbacks import Restoration, restoration, scoring
from soul_lightning.callbacks.base import ProbeCallback
from tests.callbacks.tiny_models import KeepsFirstEpoch, memorization, unlearning
from tests.conftest import TinyDataModule, make_trainer


def never_again(*_args: Any, **_settings: Any) -> Never:
    raise AssertionError("another model is asked a second time")


@pytest.mark.parametrize("make", [memorization, Restoration])
def test_other_models_are_asked_once(
    make: Callable[..., ProbeCallback],
    tokenizer: PreTrainedTokenizerFast,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    straight, resumed = (make(models={"clean": str(model_folder)}) for _ in range(2))
    checkpoint = tmp_path / "one.ckpt"
    trainer = make_trainer(tmp_path / "straight", max_epochs=2, callbacks=[straight, KeepsFirstEpoch(checkpoint)])
    trainer.fit(unlearning(tokenizer), TinyDataModule())
    for module in (scoring, restoration):
        monkeypatch.setattr(module, "ask_other_model", never_again)
    again = make_trainer(tmp_path / "resumed", max_epochs=2, callbacks=[resumed])
    again.fit(unlearning(tokenizer, seed=7), TinyDataModule(), ckpt_path=checkpoint)
    assert any(name.split("/")[1] == "clean" for name in resumed.summary())
    assert resumed.summary() == straight.summary()


@pytest.mark.parametrize("make", [memorization, Restoration])
def test_another_model_of_that_name_is_asked(
    make: Callable[..., ProbeCallback],
    tokenizer: PreTrainedTokenizerFast,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = tmp_path / "one.ckpt"
    first = make(models={"clean": str(model_folder)})
    make_trainer(tmp_path, callbacks=[first, KeepsFirstEpoch(checkpoint)]).fit(unlearning(tokenizer), TinyDataModule())
    other = model_folder.rename(tmp_path / "other")
    for module in (scoring, restoration):
        monkeypatch.setattr(module, "ask_other_model", never_again)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[make(models={"clean": str(other)})])
    with pytest.raises(AssertionError, match="asked a second time"):
        trainer.fit(unlearning(tokenizer), TinyDataModule(), ckpt_path=checkpoint)
