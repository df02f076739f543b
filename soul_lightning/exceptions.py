"""The errors that a user can mend; the command line turns them into one sentence and exit code 2.

This module imports nothing, so that the command line can raise them before torch is loaded.
"""


class MisconfigurationError(ValueError):
    """A setting, a file or a row is not usable; the message names it, its value and the way out."""


class TrainingDivergedError(RuntimeError):
    """Too many optimizer steps in a row had a non-finite loss or gradient."""
