"""Step times of large models on many GPUs, from operations and bytes: arithmetic, not a measurement.

Of a step of GradDiff with Sophia under FSDP2, one micro-batch, its curvature refreshed every ten steps:

- operations: 6 · weights · tokens, and a third of that more on a refresh step (backward through the retain half);
- bytes each GPU receives: two gathers of the weights and one reduction of the gradients, float32, less the part that it
  holds itself; on a refresh step five gathers and three reductions (`python -m benchmarks.scaling` counts them);
- memory of each GPU: 16 bytes a weight (weight, gradient, momentum, curvature) over `gpus`, and two whole blocks.

`at best` hides the smaller of both behind the larger; `at worst` hides nothing.

python -m benchmarks.prediction [--tokens 2048] [--teraflops 400] [--node-gbs 300] [--network-gbs 40]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

REFRESH_EVERY = 10
GATHERS, REDUCTIONS = 2, 1
GATHERS_ON_REFRESH, REDUCTIONS_ON_REFRESH = 5, 3
GPUS_OF_A_NODE = 8
STATE_BYTES = 16
MODELS = {"7B": (7e9, 32), "70B": (70e9, 80)}
"""Weights and blocks."""


@dataclass(frozen=True)
class Machine:
    """What a GPU and its links reach in practice.

    Attributes:
        flops: Operations a second in bfloat16.
        node_bytes: Bytes a second that a GPU receives from others of its node.
        network_bytes: The same from other nodes.
    """

    flops: float
    node_bytes: float
    network_bytes: float


def step_seconds(weights: float, gpus: int, tokens: int, machine: Machine) -> tuple[float, float]:
    """Seconds of computing and of exchanging in a mean step.

    Args:
        weights: How many.
        gpus: How many.
        tokens: Of one GPU in a step, forget and retain.
        machine: What it runs on.
    """
    computing = 6 * weights * tokens / machine.flops * (1 + 1 / (3 * REFRESH_EVERY))
    plain, refresh = GATHERS + REDUCTIONS, GATHERS_ON_REFRESH + REDUCTIONS_ON_REFRESH
    volumes = plain + (refresh - plain) / REFRESH_EVERY
    link = machine.node_bytes if gpus <= GPUS_OF_A_NODE else machine.network_bytes
    return computing, volumes * 4 * weights * (gpus - 1) / gpus / link


def gibibytes(weights: float, blocks: int, gpus: int) -> float:
    """Weights and states of a GPU, without activations."""
    return (STATE_BYTES * weights / gpus + 2 * 4 * weights / blocks) / 2**30


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048, help="real tokens of each GPU in a step")
    parser.add_argument("--teraflops", type=float, default=400, help="reached in bfloat16")
    parser.add_argument("--node-gbs", type=float, default=300, help="GB a second from GPUs of the node")
    parser.add_argument("--network-gbs", type=float, default=40, help="GB a second from other nodes, a GPU")
    given = parser.parse_args()
    machine = Machine(given.teraflops * 1e12, given.node_gbs * 1e9, given.network_gbs * 1e9)
    print("| model | GPUs | GiB a GPU | computing | exchanging | step, at best | at worst |")
    print("|---|---|---|---|---|---|---|")
    for name, (weights, blocks) in MODELS.items():
        for gpus in (8, 64):
            computing, exchanging = step_seconds(weights, gpus, given.tokens, machine)
            seconds = (computing, exchanging, max(computing, exchanging), computing + exchanging)
            times = " | ".join(f"{each:.2f} s" for each in seconds)
            print(f"| {name} | {gpus} | {gibibytes(weights, blocks, gpus):.0f} | {times} |")


if __name__ == "__main__":
    main()
