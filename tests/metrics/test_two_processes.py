"""Every metric class over two processes: each has a part of the rows, and both give the number of all of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from soul_lightning.metrics import ModelUtility
from tests.metrics.cases import CASES
from tests.metrics.cases.case import Batch, call, dealt, measured, numbers

Found = dict[str, Any]
SHARES: dict[str, Callable[[Batch, int], list[Batch]]] = {
    "in turn": lambda batch, rank: [dealt(batch, rank, 2)],
    "all to the first": lambda batch, rank: [batch] if rank == 0 else [],
    "all to the second": lambda batch, rank: [batch] if rank == 1 else [],
}


def measure(rank: int, folder: Path) -> None:
    """What one process does: every case, in every share."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", store, timedelta(seconds=120), world_size=2, rank=rank)
    found: Found = {}
    for name, case in CASES.items():
        for share, of in SHARES.items():
            metric = case.make()
            metric.to(torch.bfloat16)  # as a module in half precision takes it along
            mine = [part for batch in case.batches for part in of(batch, rank)]
            found[f"{name}, {share}"] = measured(metric, mine)
            for batch in mine:
                call(metric.update, batch)
            found[f"{name}, {share}, every row twice"] = numbers(metric.compute())
            if isinstance(metric, ModelUtility):
                found[f"{name}, {share}, parts"] = numbers(metric.parts())
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(found))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """The numbers of each process; one start of two processes serves all tests."""
    folder = tmp_path_factory.mktemp("two_processes")
    spawn(measure, (folder,), nprocs=2)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", sorted(CASES))
def test_each_process_gives_the_number_of_all_rows(found: list[Found], name: str, share: str) -> None:
    case = CASES[name]
    twice = measured(case.make(), [*case.batches, *case.batches])
    for own in found:
        assert own[f"{name}, {share}"] == pytest.approx(case.expected, rel=1e-9, abs=1e-12, nan_ok=True)
        # rows of the other process were read, not taken over
        assert own[f"{name}, {share}, every row twice"] == pytest.approx(twice, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.slow
def test_the_parts_of_model_utility_are_those_of_all_rows(found: list[Found]) -> None:
    case = CASES["ModelUtility"]
    metric = case.make()
    assert isinstance(metric, ModelUtility)
    measured(metric, case.batches)
    for own in found:
        for share in SHARES:
            assert own[f"ModelUtility, {share}, parts"] == pytest.approx(numbers(metric.parts()))
