"""Commands in forked children of a process that has imported everything already, so that hundreds take minutes."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from soul_lightning.cli.main import main

FAILED = 70
"""The exit code of a child that an error ended which the command does not expect."""


def start(
    args: Sequence[str], log: Path, before: Callable[[], object] = lambda: None, env: Mapping[str, str] | None = None
) -> int:
    """Run one command of `soul-lightning` in a child, which inherits what was imported and nothing that runs.

    Args:
        args: What stands after `soul-lightning`.
        log: Takes what it prints.
        before: Called in the child first.
        env: More environment variables.

    Returns:
        The child's process number.
    """
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = FAILED
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.environ.update(env or {})
        vars(rank_zero_only)["rank"] = int(os.environ.get("LOCAL_RANK", 0))
        before()
        code = main(args)
        sys.stdout.flush()
    except BaseException:  # whatever it was, the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int, seconds: float = 120) -> int:
    """How a child ended: its exit code, or minus the signal that killed it.

    Raises:
        TimeoutError: It has not; it is killed.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError(f"process {child} had not ended after {seconds} s")


def pair_environments() -> list[dict[str, str]]:
    """What a launcher tells each of two processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0"}
    return [{**shared, "LOCAL_RANK": str(rank)} for rank in range(2)]
