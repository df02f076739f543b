"""Kill runs at seeded moments, go on with each, and compare with one that was never stopped: 160 by default.

    python -m tests.faults.campaign

Every run is a `soul-lightning fit` in a process of its own. SIGKILL ends it at one of its moments (`moments.py`), drawn
by a seed, and it is started again with `--ckpt_path last`. It is lost when that does not end well, and different when a
bit of its weights, a number of its summary, a measured row or a point of its curves is another.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from soul_lightning.cli.mistakes import import_rooms
from tests.conftest import make_tokenizer
from tests.faults.children import ended, start
from tests.faults.left import differences, left_by
from tests.faults.moments import MOMENTS, Moments
from tests.faults.recipe import OPTIMIZERS, write_recipe


@dataclass(frozen=True)
class Kill:
    """A run to be killed."""

    optimizer: str
    moment: str
    number: int


class Campaign:
    """Runs of one folder.

    Args:
        folder: Where they go; runs that came to harm stay.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unbroken: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, dict[str, int]] = {}
        os.environ["SOUL_CACHE"] = str(folder / "encoded")
        import_rooms()
        torch.set_num_threads(1)
        for optimizer in OPTIMIZERS:
            (folder / optimizer).mkdir(parents=True)
            write_recipe(folder / optimizer, optimizer, make_tokenizer())
            self._never_stop(optimizer)

    def _never_stop(self, optimizer: str) -> None:
        run, counted = self.folder / optimizer / "unbroken", self.folder / optimizer / "counts.json"

        def count() -> None:
            moments = Moments()
            original = os._exit

            def leave(code: int) -> None:
                counted.write_text(json.dumps(moments.counts))
                original(code)

            os._exit = leave  # type: ignore[assignment]

        code = ended(start(self._fit(optimizer, run), self.folder / optimizer / "unbroken.log", count))
        if code != 0:
            raise RuntimeError(f"the run that nobody stopped ended with {code}; see {self.folder / optimizer}")
        self.unbroken[optimizer] = left_by(run)
        self.counts[optimizer] = json.loads(counted.read_text())

    def _fit(self, optimizer: str, run: Path) -> list[str]:
        recipe = str(self.folder / optimizer / "tiny.yaml")
        return ["fit", "--config", recipe, "--trainer.default_root_dir", str(run)]

    def drawn(self, each: int, seed: int) -> list[Kill]:
        """`each` runs of every optimizer and moment."""
        kills = []
        for optimizer in OPTIMIZERS:
            for moment in MOMENTS:
                random, known = Random(f"{seed}/{optimizer}/{moment}"), self.counts[optimizer][moment]
                numbers = random.sample(range(1, known + 1), min(each, known))
                numbers += [random.randint(1, known) for _ in range(each - len(numbers))]
                kills += [Kill(optimizer, moment, number) for number in numbers]
        return kills

    def outcome(self, kill: Kill, name: str) -> list[str]:
        """What is wrong with a run that was killed and gone on with; nothing where it ended as if nothing had been."""
        run, log = self.folder / kill.optimizer / name, self.folder / kill.optimizer / f"{name}.log"
        args = self._fit(kill.optimizer, run)
        killed = ended(start(args, log, lambda: Moments(kill.moment, kill.number)))
        if killed != -signal.SIGKILL:
            return [f"was not killed but ended with {killed}"]
        if not (run / "summary.json").is_file() or (run / "checkpoints" / "last.ckpt").is_file():
            code = ended(start([*args, "--ckpt_path", "last"], log))
            if code != 0:
                return [f"lost: going on ended with {code}, see {log}"]
        found = differences(self.unbroken[kill.optimizer], left_by(run))
        if not found:
            shutil.rmtree(run)
            log.unlink()
        return found


def main(args: Sequence[str] | None = None) -> int:
    """Run the campaign, print its table; returns 1 where a run was lost or differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--each", type=int, default=20, help="runs of each optimizer and moment")
    parser.add_argument("--sample", type=int, help="only so many of them, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(args)
    started, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="faults-"))
    campaign = Campaign(folder)
    kills = campaign.drawn(options.each, options.seed)
    if options.sample is not None:
        kills = Random(options.seed).sample(kills, options.sample)
    harm: dict[Kill, list[str]] = {}
    cells: dict[tuple[str, str], list[int]] = {}
    for place, kill in enumerate(kills):
        found = campaign.outcome(kill, f"run{place}")
        lost = any(text.startswith(("lost", "was not")) for text in found)
        cell = cells.setdefault((kill.optimizer, kill.moment), [0, 0, 0])
        for column, is_one in enumerate((True, lost, bool(found) and not lost)):
            cell[column] += is_one
        if found:
            harm[kill] = found
            print(f"{kill}: {', '.join(found[:5])}", file=sys.stderr, flush=True)
    print(f"{'optimizer':<12}{'killed at':<12}{'of':>6}{'runs':>6}{'lost':>6}{'differ':>8}")
    for (optimizer, moment), (runs, *harmed) in cells.items():
        known = campaign.counts[optimizer][moment]
        print(f"{optimizer:<12}{moment:<12}{known:>6}{runs:>6}{harmed[0]:>6}{harmed[1]:>8}")
    seconds = time.monotonic() - started
    print(f"{len(kills)} runs killed, {len(harm)} lost or different, {seconds:.0f} s")
    if harm:
        print(f"what they left: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
