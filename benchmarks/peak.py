"""Memory of a process, from Linux' own books."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def peak_mib() -> float:
    """The most that this process has held, in MiB; unlike `ru_maxrss` it does not begin with the parent's peak."""
    return _status("VmHWM")


def resident_mib() -> float:
    """What this process holds now, in MiB."""
    return _status("VmRSS")


def in_own_process(module: str, *arguments: str) -> list[float]:
    """Run `python -m module --child ARGUMENTS` and return the numbers in the last line that it prints."""
    command = [sys.executable, "-m", module, "--child", *arguments]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [float(number) for number in lines[-1].split()]


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
