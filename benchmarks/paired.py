"""Interleaved measurements of two ways of doing one thing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def compare(name_a: str, run_a: Callable[[], object], name_b: str, run_b: Callable[[], object], pairs: int = 9) -> str:
    """Time A B A B … on one thread and report medians of CPU seconds.

    Args:
        name_a: What A is.
        run_a: Does A once.
        name_b: What B is.
        run_b: Does B once.
        pairs: How many pairs, after one warm-up of each.

    Returns:
        One line: both medians and the median of the paired ratios B / A.
    """
    torch.set_num_threads(1)
    run_a()
    run_b()
    seconds: list[tuple[float, float]] = []
    for _ in range(pairs):
        seconds.append((_cpu_seconds(run_a), _cpu_seconds(run_b)))
    median_a, median_b = (statistics.median(column) for column in zip(*seconds, strict=True))
    ratio = statistics.median(b / a for a, b in seconds)
    return f"{name_a}: {median_a:.4f} s · {name_b}: {median_b:.4f} s · ratio {ratio:.2f} (CPU seconds, {pairs} pairs)"


def _cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started
