"""SIGTERM and SIGINT, noted until a step has ended."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer

WAITING = b"\nstopping once this step is done and saved; Ctrl-C again stops at once, without saving\n"


class StopSignals:
    """Takes the place of the handlers of SIGTERM and SIGINT, of Lightning's too.

    Lightning's handler of SIGTERM speaks to the other processes from within, at whatever point the signal found this
    one: in the middle of another exchange both would hang. Here a signal is noted, and processes agree at a step's end.
    """

    def __init__(self) -> None:
        self._noted = 0
        self._speaks = False
        self._handlers: dict[int, Any] = {}

    def watch(self, trainer: Trainer) -> None:
        """Note signals from now on; one that Lightning has noted before counts."""
        self._noted = signal.SIGTERM if trainer.received_sigterm else 0
        if threading.current_thread() is threading.main_thread() and not self._handlers:
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
            self._speaks = trainer.is_global_zero

    def let_go(self) -> None:
        """Put the handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def agreed(self, trainer: Trainer) -> int:
        """The signal that any process was sent, 0 for none; every process must ask."""
        if trainer.world_size == 1:
            return self._noted
        noted = torch.tensor(self._noted, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(noted, reduce_op="max"))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._noted == signal.SIGINT:
            raise KeyboardInterrupt
        self._noted = number
        if number == signal.SIGINT and self._speaks:
            os.write(2, WAITING)  # a handler may interrupt a print
