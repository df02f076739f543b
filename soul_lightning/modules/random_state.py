"""The random numbers' state, which Lightning's checkpoints leave out: dropout goes on where it stood, on every rank."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, distributed

NO_SPARE = float("nan")
"""In place of the second number of a pair of Gaussian ones, where none is left over."""


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of Python's, NumPy's and torch's generators on every process; every process must ask.

    Args:
        device: The generator of this CUDA device too; the CPU has its own.

    Returns:
        Tensors on the CPU, [processes, …], by the name of the generator.
    """
    own = {"cpu": torch.get_rng_state(), **_python_state(), **_numpy_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    states = [own]
    if _rank() is not None:
        states = [{} for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(states, own)
    return {name: torch.stack([state[name] for state in states]) for name in own}


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Go on from a state; an empty one changes nothing.

    Args:
        state: What `random_state` gave, wherever a checkpoint was mapped to.
        device: The CUDA device, or the CPU.
    """
    if not state:
        return
    rank, stored = _rank() or 0, len(state["cpu"])
    if rank >= stored:
        rank_zero_warn(f"the checkpoint holds the random state of {stored} processes; others draw anew")
        return
    # A copy: torch reads a state from the beginning of its storage, whatever part of it a view is.
    own = {name: values[rank].cpu().clone() for name, values in state.items()}
    torch.set_rng_state(own["cpu"])
    words, spare = own["python"].tolist(), own["python_spare"].item()
    random.setstate((words[0], tuple(words[1:]), None if spare != spare else spare))
    numbers = own["numpy"].tolist()
    keys = np.array(numbers[:-2], dtype=np.uint32)
    np.random.set_state(("MT19937", keys, numbers[-2], numbers[-1], own["numpy_spare"].item()))
    if "cuda" in own and device.type == "cuda":
        torch.cuda.set_rng_state(own["cuda"], device)


def _rank() -> int | None:
    """This process's number; none where there is only one."""
    is_shared = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return distributed.get_rank() if is_shared else None


def _python_state() -> dict[str, Tensor]:
    version, words, spare = random.getstate()
    return {
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_spare": torch.tensor(NO_SPARE if spare is None else spare, dtype=torch.float64),
    }


def _numpy_state() -> dict[str, Tensor]:
    state: Any = np.random.get_state(legacy=True)  # a tuple, for which numpy's types leave a dict open
    _, keys, position, has_spare, spare = state
    return {
        "numpy": torch.tensor([*keys.tolist(), position, has_spare], dtype=torch.int64),
        "numpy_spare": torch.tensor(spare, dtype=torch.float64),
    }
