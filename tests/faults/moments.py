"""Moments of a run at which its process can end: counted in one run, and the nth of them fatal in another."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from soul_lightning import files
from soul_lightning.cli import fitting
from soul_lightning.cli.progress import StepProgressBar
from soul_lightning.cli.run_checkpoint import RunCheckpoint
from soul_lightning.modules.base import StreamModule
from soul_lightning.run_folder import CHECKPOINT_NAME
from soul_lightning.scoring.adapter import CausalLMAdapter

MOMENTS = ("mid-epoch", "epoch end", "save", "evaluation")
_LAST = Path(CHECKPOINT_NAME).name


class Moments:
    """Patches a process, which must be one that was forked for it.

    Args:
        fatal: The moment at which the process is killed, by SIGKILL; none is.
        number: Which of them, from 1.
    """

    def __init__(self, fatal: str | None = None, number: int = 0) -> None:
        self.counts = dict.fromkeys(MOMENTS, 0)
        self._fatal = fatal
        self._number = number
        self._patch_steps()
        self._patch_saves()

    def is_fatal(self, moment: str) -> bool:
        """Count a moment; returns whether it is the last one."""
        self.counts[moment] += 1
        return moment == self._fatal and self.counts[moment] == self._number

    def pass_through(self, moment: str) -> None:
        """Count a moment, or end there."""
        if self.is_fatal(moment):
            kill()

    def _patch_steps(self) -> None:
        self._around(StreamModule, "training_step", "mid-epoch", "mid-epoch")
        self._around(StepProgressBar, "on_train_epoch_end", "epoch end", None)
        for name in ("on_train_epoch_end", "on_train_end"):
            self._around(RunCheckpoint, name, "epoch end", "epoch end")
        self._around(fitting, "_close", "epoch end", None)
        self._around(fitting, "write_summary", "epoch end", "epoch end")
        for name in ("token_statistics", "prefixed_statistics", "generate"):
            self._around(CausalLMAdapter, name, "evaluation", None)

    def _around(self, holder: Any, name: str, before: str | None, after: str | None) -> None:
        original: Callable[..., Any] = getattr(holder, name)

        def patched(*args: Any, **settings: Any) -> Any:
            if before is not None:
                self.pass_through(before)
            result = original(*args, **settings)
            if after is not None:
                self.pass_through(after)
            return result

        setattr(holder, name, patched)

    def _patch_saves(self) -> None:
        write, replace, sync = torch.save, os.replace, files._sync

        def save(checkpoint: Any, file: Any, **settings: Any) -> None:
            if _LAST not in str(getattr(file, "name", "")):
                return write(checkpoint, file, **settings)  # an object on its way to another process
            self.pass_through("save")
            if self.is_fatal("save"):
                whole = io.BytesIO()
                write(checkpoint, whole)
                file.write(whole.getvalue()[: whole.tell() // 2])
                file.flush()
                kill()
            write(checkpoint, file)

        def synced(path: Path) -> None:
            if _LAST in path.name:
                self.pass_through("save")
            sync(path)

        def replaced(old: Any, new: Any) -> None:
            is_last = Path(new).name == _LAST
            if is_last:
                self.pass_through("save")
            replace(old, new)
            if is_last:
                self.pass_through("save")

        torch.save, os.replace, files._sync = save, replaced, synced  # type: ignore[assignment]


def kill() -> None:
    """End this process as the kernel would that is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
