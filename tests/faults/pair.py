"""A run of two processes, one of which is killed or sent a signal: `python -m tests.faults.pair`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from soul_lightning.cli.mistakes import import_rooms
from tests.conftest import make_tokenizer
from tests.faults.children import FAILED, ended, pair_environments, start
from tests.faults.left import differences, left_by
from tests.faults.moments import Moments
from tests.faults.recipe import write_recipe

STEP_MOMENT = 17
"""Before the ninth step, behind a checkpoint: both processes have dropped out what the other has not."""
CASES = {
    "the first is killed": (0, signal.SIGKILL, (-9, FAILED)),
    "the second is killed": (1, signal.SIGKILL, (FAILED, -9)),
    "the second is sent SIGTERM": (1, signal.SIGTERM, (143, 0)),
}
"""Which process is harmed, by what, and how the two end."""


class Pair:
    """Runs of two processes in a folder.

    Args:
        folder: Where they go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.environ["SOUL_CACHE"] = str(folder / "encoded")
        import_rooms()
        self._recipe = write_recipe(folder, "Sophia-GNB", make_tokenizer(), devices=2, strategy="ddp")

    def run(self, name: str, *more: str, rank: int = 0, sent: signal.Signals | None = None) -> list[int]:
        """How both processes ended.

        Args:
            name: The run folder.
            *more: Arguments.
            rank: Which process is harmed.
            sent: By what; nothing harms it otherwise.

        Raises:
            TimeoutError: One of them hangs.
        """

        def harm(own: int) -> None:
            if own == rank and sent == signal.SIGKILL:
                Moments("mid-epoch", STEP_MOMENT)

        run = self.folder / name
        args = ["fit", "--config", str(self._recipe), "--trainer.default_root_dir", str(run), *more]
        children = [
            start(args, self.folder / f"{name}{own}.log", partial(harm, own), env)
            for own, env in enumerate(pair_environments())
        ]
        if sent == signal.SIGTERM:
            while not (run / "checkpoints" / "last.ckpt").exists():
                time.sleep(0.02)
            os.kill(children[rank], sent)
        return [ended(child) for child in children]


def main() -> int:
    """Run all cases, print a table; returns 1 where one was lost or differs."""
    folder = Path(tempfile.mkdtemp(prefix="pair-"))
    pair = Pair(folder)
    if pair.run("whole") != [0, 0]:
        print(f"the run that nobody harmed failed, see {folder}", file=sys.stderr)
        return 1
    whole, harmed = left_by(folder / "whole"), 0
    for case, (rank, sent, codes) in CASES.items():
        name = case.replace(" ", "-")
        found = _outcome(pair, name, rank, sent, codes, whole)
        harmed += bool(found)
        print(f"{case:<30}{', '.join(found[:5]) or 'went on as if nothing had been'}", flush=True)
    if harmed:
        print(f"what they left: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _outcome(
    pair: Pair, name: str, rank: int, sent: signal.Signals, codes: tuple[int, int], whole: dict[str, Any]
) -> list[str]:
    """What is wrong with a case; nothing where all is well."""
    ends = pair.run(name, rank=rank, sent=sent)
    if ends != list(codes):
        return [f"ended with {ends}"]
    again = pair.run(name, "--ckpt_path", "last")
    return (
        [f"lost: going on ended with {again}"] if again != [0, 0] else differences(whole, left_by(pair.folder / name))
    )


if __name__ == "__main__":
    sys.exit(main())
