"""`soul-lightning test`."""

from __future__ import annotations

from collections.abc import Sequence

from soul_lightning.cli.evaluation_command import run_evaluation

DESCRIPTION = "Measure a final model on every example of every probe, whatever limits the callbacks have."


def run(args: Sequence[str]) -> int:
    """Measure a final model."""
    return run_evaluation("test", DESCRIPTION, args)
