"""The errors that a user can mend; the command line turns them into one sentence and exit code 2.

This module imports nothing, so that the command line can raise them before torch is loaded.
"""


class MisconfigurationError(ValueError):
    """A setting, a file or a row is not usable; the message names it, its value and the way out."""


class TrainingDivergedError(RuntimeError):
    """Training has left what can be used: non-finite steps in a row, or a metric out of its bounds.

    Args:
        message: What happened, and the way out.
        step: The optimizer step, where it is known.
    """

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class RunInterrupted(Exception):
    """A signal ended a run; the message says after which step and, where a checkpoint is there, how to go on.

    Attributes:
        signal: The signal's number; a shell expects the exit code 128 + `signal`.
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal
