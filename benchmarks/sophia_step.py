"""Sophia's step in cache-sized chunks against whole tensors: `python -m benchmarks.sophia_step`."""

from __future__ import annotations

import torch

from benchmarks.paired import compare
from soul_lightning import Sophia
from soul_lightning.optim.sophia_reference import SophiaReference

SHAPES = [(49_152, 576)] + [(576, 576), (1536, 576), (1536, 576), (576, 1536)] * 8
"""The embedding and eight blocks of a model of SmolLM2-135M's width."""


def main() -> None:
    """Measure one optimizer step over about 53 million float32 parameters."""
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape) * 0.02) for shape in SHAPES]
    gradients = [torch.randn(shape) * 1e-3 for shape in SHAPES]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    chunked = Sophia(parameters, lr=1e-6)
    whole = [SophiaReference(p.detach().clone(), 1e-6, (0.965, 0.99), 0.04, 0.1) for p in parameters]

    def step_whole() -> None:
        for reference, gradient in zip(whole, gradients, strict=True):
            reference.step(gradient)

    print(compare("chunks", chunked.step, "whole tensors", step_whole))


if __name__ == "__main__":
    main()
