"""TensorBoard on a free port of this machine, and what its plugins answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from lightning.fabric.plugins.environments.lightning import find_free_network_port

PATIENCE_SECONDS = 60


class Board:
    """A running server.

    Attributes:
        address: Where a browser finds it.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, **query: str) -> Any:
        """What a plugin says: `scalars/tags`."""
        with urlopen(f"{self.address}/data/plugin/{path}?{urlencode(query)}", timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())


@contextmanager
def served(folder: Path, log: Path, last_tag: str) -> Iterator[Board]:
    """Serve a folder; TensorBoard shows its name, not where it lies.

    Args:
        folder: Of runs.
        log: Where the server writes what it has to say.
        last_tag: A scalar of any run; the server has read everything when it knows it.
    """
    port = find_free_network_port()
    options = [f"--logdir={folder.name}", f"--port={port}", "--host=127.0.0.1"]
    command = [sys.executable, "-m", "tensorboard.main", *options]
    with log.open("wb") as file:
        server = subprocess.Popen(command, cwd=folder.parent, stdout=file, stderr=file)
    board = Board(f"http://127.0.0.1:{port}")
    until = time.monotonic() + PATIENCE_SECONDS
    try:
        while not _knows(board, last_tag):
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.3)
        yield board
    finally:
        server.terminate()
        server.wait(20)


def _knows(board: Board, tag: str) -> bool:
    try:
        return any(tag in tags for tags in board.ask("scalars/tags").values())
    except OSError:  # it does not listen yet
        return False
