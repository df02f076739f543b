"""A recipe over two small files, and the command line in-process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from soul_lightning.cli.main import main
from soul_lightning.modules.base import StreamModule
from tests.conftest import FORGET, RETAIN


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of stderr."""
        return self.err.strip().splitlines()[-1]


Run = Callable[..., Outcome]
Interrupt = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in a fresh working folder."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str | Path) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def write_rows(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps({"prompt": prompt, "answer": answer}) + "\n" for prompt, answer in pairs))
    return path


def write_yaml(path: Path, config: dict[str, Any], comment: str = "A test") -> Path:
    """A recipe file."""
    path.write_text(f"# {comment}\n" + yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> dict[str, Any]:
    """Unlearn six rows, keep eight, in two epochs of three optimizer steps."""
    plain = {"prompt": "{prompt}", "answer": " {answer}"}
    data = {
        "forget": str(write_rows(tmp_path / "forget.jsonl", FORGET)),
        "retain": str(write_rows(tmp_path / "retain.jsonl", RETAIN)),
        "batch_size": 2,
        "max_tokens": 32,
        "template": plain,
    }
    module = {
        "network": {"pretrained_model_name_or_path": str(model_folder)},
        "forget": {"class_path": "NPO", "init_args": {"beta": 0.1}},
        "retain": "CrossEntropy",
        "retain_weight": {"class_path": "LinearWeight", "init_args": {"start": 1.0, "end": 2.0}},
        "optimizer": {"class_path": "Sophia", "init_args": {"lr": 1.0e-3}},
        "curvature": {"class_path": "GaussNewtonBartlett", "init_args": {"interval_steps": 2}},
        "lr_scheduler": {"decay": "cosine", "warmup_steps": 0.1},
    }
    return {
        "model": {"class_path": "UnlearningModule", "init_args": module},
        "data": {"class_path": "RecordsDataModule", "init_args": data},
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "devices": 1},
    }


@pytest.fixture
def recipe(tmp_path: Path, config: dict[str, Any]) -> Path:
    """`config` as a file."""
    return write_yaml(tmp_path / "tiny.yaml", config)


@pytest.fixture
def interrupted(run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Interrupt:
    """Run the recipe in the folder `run` and send this process signals within an optimizer step, counted from 1."""

    def call(*signals: signal.Signals, step: int = 4, args: tuple[str, ...] = ()) -> Outcome:
        original = StreamModule.training_step

        def training_step(self: StreamModule, *given: Any) -> None:
            if self.global_step == step - 1:
                for number in signals:
                    os.kill(os.getpid(), number)
            original(self, *given)

        with monkeypatch.context() as patched:
            patched.setattr(StreamModule, "training_step", training_step)
            return run("fit", "--config", recipe, "--trainer.default_root_dir", "run", *args)

    return call
