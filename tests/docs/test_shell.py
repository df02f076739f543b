"""What holds the commands of the pages lets nothing through that it does not know."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.docs.shell import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        "curl https://example.org",
        "soul-lightning fit --config quickstart --model.network.pretrained_model_name_or_path ELSEWHERE",
        "pip install -e '.[everything]'",
        "pip install left-pad",
        "python -m pytest tests/nowhere",
        "python -m http.server",
    ],
)
def test_what_no_rule_covers_fails(desk: Desk, command: str) -> None:
    with pytest.raises(AssertionError):
        desk.do(shlex.split(command))


@pytest.mark.parametrize(
    "command",
    [
        "soul-lightning fit --config quickstart --data.batchsize 8",
        "soul-lightning fit --config quickstart --model.forget Nothing",
        "soul-lightning restor --config tiny-world --stages.corrupted.trainer.max_epoch 2",
        "soul-lightning compare --config compare-tiny-world --optimizer.adamw.rates '[1e-4]'",
        "soul-lightning validate --config tiny-world-tofu --networks MODEL",
        "python -m benchmarks.training MODEL TOFU --step 10x",
    ],
)
def test_a_command_with_a_mistake_in_it_is_not_parsed(desk: Desk, command: str) -> None:
    assert desk.do(shlex.split(command)) == 2
