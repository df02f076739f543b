"""A seeded sample of the campaign, and two processes; the whole of it is a command of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(*command: str) -> list[str]:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_killed_runs_end_as_if_nothing_had_been() -> None:
    lines = printed("tests.faults.campaign", "--sample", "8")
    assert lines[-1].startswith("8 runs killed, 0 lost or different")


@pytest.mark.slow
def test_two_processes_end_as_if_nothing_had_been() -> None:
    lines = printed("tests.faults.pair")
    assert len(lines) == 3
    assert all(line.endswith("went on as if nothing had been") for line in lines)
