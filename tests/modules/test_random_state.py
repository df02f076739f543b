"""Every generator goes on where it stood."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from soul_lightning.checkpoint_io import AtomicCheckpointIO
from soul_lightning.modules.random_state import random_state, set_random_state

CPU = torch.device("cpu")


def draws() -> list[float]:
    """Of each generator; of Gaussian numbers one, so that the other of a pair is left over."""
    return [
        *(random.random(), random.gauss(0, 1)),
        *(float(np.random.rand()), float(np.random.randn())),
        *(float(torch.rand(())), float(torch.randn(()))),
    ]


@pytest.mark.parametrize("left_over", [0, 1])
def test_all_generators_go_on_through_a_checkpoint(tmp_path: Path, left_over: int) -> None:
    for _ in range(left_over):
        draws()
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "random": random_state(CPU)}, tmp_path / "one.ckpt")
    expected = [draws() for _ in range(3)]
    set_random_state(AtomicCheckpointIO().load_checkpoint(tmp_path / "one.ckpt")["random"], CPU)
    assert [draws() for _ in range(3)] == expected


def test_each_process_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    states, expected = [], []
    for seed in range(2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        states.append(random_state(CPU))
        expected.append(draws())
    both = {name: torch.cat([state[name] for state in states]) for name in states[0]}
    for rank in (1, 0):
        monkeypatch.setattr("soul_lightning.modules.random_state._rank", lambda rank=rank: rank)
        set_random_state(both, CPU)
        assert draws() == expected[rank]
    monkeypatch.setattr("soul_lightning.modules.random_state._rank", lambda: 2)
    with pytest.warns(match="holds the random state of 2 processes"):
        set_random_state(both, CPU)


def test_an_empty_state_changes_nothing() -> None:
    before = random_state(CPU)
    set_random_state({}, CPU)
    after = random_state(CPU)
    assert all(torch.equal(before[name], after[name]) or name == "python_spare" for name in before)
