"""Two processes, with the weights whole (DDP) or split (FSDP2), walk the path of one that has the same global batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.distributed.scenarios import SCENARIOS

CLOSE = 1e-6
"""Of a tensor's largest entry, or of 1, in float32: losses, gradients, Sophia's state, weights and metrics alike."""
QUOTIENTS = ("curvature/sum_ratio", "_relative")
"""Quotients of sums whose terms cancel, and of exponentials, are a few roundings wider: five times."""
REPEATED = "again"


def launch(strategy: str, size: int, folder: Path) -> Path:
    """Run every scenario on `size` processes; their files lie in the folder."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.worker", strategy, str(rank), str(size), str(folder)],
            env={**os.environ, **shared, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-3000:]
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The folder of each strategy; of DDP twice."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "one": launch("one", 1, folder / "one"),
        "ddp": launch("ddp", 2, folder / "ddp"),
        REPEATED: launch("ddp", 2, folder / REPEATED),
        "fsdp2": launch("fsdp2", 2, folder / "fsdp2"),
    }


def found(folder: Path, scenario: str) -> dict[str, torch.Tensor]:
    kept: dict[str, torch.Tensor] = torch.load(folder / f"{scenario}.pt", weights_only=True)
    return kept


CASES = [
    (strategy, name)
    for strategy in ("ddp", "fsdp2")
    for name, scenario in SCENARIOS.items()
    if strategy == "ddp" or scenario.splits
]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "scenario"), CASES)
def test_two_processes_walk_the_path_of_one(runs: Mapping[str, Path], strategy: str, scenario: str) -> None:
    one, two = found(runs["one"], scenario), found(runs[strategy], scenario)
    assert one.keys() == two.keys()
    kinds = {" ".join(key.split()[:3:2]) if key.startswith("step") else key.split()[1] for key in one}
    assert {"step gradient", "step train/loss", "weight"} <= kinds
    assert ("curvature" in kinds) == ("step curvature/norm" in kinds)
    for name, value in one.items():
        allowed = CLOSE * max(1.0, float(value.abs().max())) * (5 if name.endswith(QUOTIENTS) else 1)
        torch.testing.assert_close(two[name], value, rtol=0, atol=allowed, equal_nan=True, msg=f"{name}: {{}}".format)


@pytest.mark.slow
def test_metrics_of_every_kind_are_among_what_is_compared(runs: Mapping[str, Path]) -> None:
    measured = {
        "npo_with_sophia": ("restoration/", "memorization/", "membership/", "utility/"),
        "attacked": ("probe/layer_1", "prompts/any_", "quantization/int4/", "relearning/forget_"),
    }
    for scenario, kinds in measured.items():
        names = found(runs["one"], scenario)
        for kind in kinds:
            assert any(name.startswith(f"end metric {kind}") for name in names), kind


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_seed_gives_the_same_bits(runs: Mapping[str, Path], scenario: str) -> None:
    once, again = found(runs["ddp"], scenario), found(runs[REPEATED], scenario)
    assert once.keys() == again.keys()
    for name, value in once.items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0, equal_nan=True, msg=f"{name}: {{}}".format)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_a_run_that_was_broken_off_ends_like_one_that_was_not(runs: Mapping[str, Path], strategy: str) -> None:
    """In the middle of an epoch, with dropout, on both processes: to the bit."""
    unbroken, resumed = torch.load(runs[strategy] / "resumed.pt", weights_only=True)
    after = {
        name: value for name, value in unbroken.items() if not name.startswith(tuple(f"step {n} " for n in range(5)))
    }
    assert any(name.startswith("step 5 ") for name in after)
    for name, value in after.items():
        assert torch.equal(resumed[name], value), name
