"""`soul-lightning validate`."""

from __future__ import annotations

from collections.abc import Sequence

from soul_lightning.cli.evaluation_command import run_evaluation

DESCRIPTION = "Measure a model as it is, without training, with the callbacks and the data of a recipe."


def run(args: Sequence[str]) -> int:
    """Measure a model."""
    return run_evaluation("validate", DESCRIPTION, args)
