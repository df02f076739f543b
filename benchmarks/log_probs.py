"""What label log-probabilities and their gradient cost: `cross_entropy` over all rows, and a few rows at a time.

CPU seconds of both in turns, and what each, in a process of its own, holds at most beyond the logits. The first size is
one that is handled whole, to show why it is.

OMP_NUM_THREADS=1 python -m benchmarks.log_probs
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.paired import compare
from benchmarks.peak import in_own_process, peak_mib, resident_mib
from soul_lightning.networks import chunked

SIZES = [(300, 400, "float32"), (240, 49_152, "float32"), (240, 49_152, "bfloat16"), (1000, 49_152, "float32")]
"""Rows, vocabulary, precision: a step of the tiny world, and of 4 and 16 rows of TOFU with SmolLM2's vocabulary."""


def whole(logits: Tensor, targets: Tensor) -> Tensor:
    """The usual way."""
    return -functional.cross_entropy(logits.float(), targets, reduction="none")


WAYS = {"whole": whole, "chunked": chunked.chunked_log_probs}


def main() -> None:
    """Print two lines a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of measurements")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chunked.FEW_LOGITS = 0
    if arguments.child:
        way, rows, vocabulary, precision = arguments.child
        print(_growth(way, int(rows), int(vocabulary), precision))
        return
    for rows, vocabulary, precision in SIZES:
        logits, targets = _sized(rows, vocabulary, precision)
        times = compare(
            "whole",
            lambda logits=logits, targets=targets: _run("whole", logits, targets),
            "chunked",
            lambda logits=logits, targets=targets: _run("chunked", logits, targets),
            arguments.pairs,
        )
        size = (str(rows), str(vocabulary), precision)
        grown = [f"{way} {in_own_process('benchmarks.log_probs', way, *size)[0]:+,.0f} MiB" for way in WAYS]
        print(f"{rows:,} x {vocabulary:,} {precision} ({logits.nbytes / 2**20:,.1f} MiB)\n  {times}")
        print(f"  {' · '.join(grown)} at most")


def _sized(rows: int, vocabulary: int, precision: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, vocabulary, generator=generator, dtype=getattr(torch, precision)).mul_(3)
    return logits.requires_grad_(), torch.randint(0, vocabulary, (rows,), generator=generator)


def _run(way: str, logits: Tensor, targets: Tensor) -> None:
    """Once forward and backward, or for small sizes often enough to be measured."""
    for _ in range(max(1, 30_000_000 // logits.numel())):
        torch.autograd.grad(WAYS[way](logits, targets).square().sum(), logits)


def _growth(way: str, rows: int, vocabulary: int, precision: str) -> float:
    """By how much the peak of this process exceeds what it held with the logits alone."""
    _run(way, *_sized(8, 64, precision))  # what torch loads at first use is not counted
    logits, targets = _sized(rows, vocabulary, precision)
    before = resident_mib()
    _run(way, logits, targets)
    return peak_mib() - before


if __name__ == "__main__":
    main()
