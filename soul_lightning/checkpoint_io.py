"""Checkpoints as Lightning writes and reads them, but whole whenever the process ends, and never executed."""

from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.files import replaced_when_written

MapLocation = Callable[..., Any] | str | None


class AtomicCheckpointIO(TorchCheckpointIO):
    """A plugin of any Trainer: `Trainer(plugins=[AtomicCheckpointIO()])`.

    A checkpoint is written beside the place where it belongs, to the disk, and then renamed: a process that is killed
    meanwhile leaves the checkpoint before. Lightning's own plugin puts the whole file together in memory first and
    does not wait for the disk. Reading executes nothing: a file may hold tensors and plain values only.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What Lightning collected.
            path: A local file; what is there is replaced at the end.
            storage_options: Has no use for local files.

        Raises:
            OSError: The file cannot be written; what was there before is still there.
        """
        if storage_options is not None:
            raise MisconfigurationError(
                f"{type(self).__name__} writes local files, which take no storage_options; leave them out"
            )
        with replaced_when_written(Path(path)) as temporary:
            try:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
            except (OSError, RuntimeError) as error:
                raise _write_error(error, path) from error

    def load_checkpoint(
        self, path: _PATH, map_location: MapLocation = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: A local file.
            map_location: Where its tensors go.
            weights_only: Taken for `True` whatever is asked.

        Raises:
            MisconfigurationError: There is no such file, it is damaged, or it holds more than tensors and plain values.
        """
        path = Path(path)
        if path.is_file() and not _is_whole(path):
            raise _damaged(path)
        del weights_only
        return read_checkpoint(path, map_location=map_location)


def read_checkpoint(path: Path, map_location: MapLocation = "cpu", mmap: bool = False) -> dict[str, Any]:
    """What a checkpoint holds; checksums are left alone, so that `mmap` reads no more than is used.

    Args:
        path: The file.
        map_location: Where its tensors go.
        mmap: Read tensors when they are used.

    Raises:
        MisconfigurationError: There is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise MisconfigurationError(f"the checkpoint {str(path)!r} does not exist; check its path")
    if not zipfile.is_zipfile(path):
        raise _damaged(path)
    try:
        stored = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise MisconfigurationError(
            f"the checkpoint {str(path)!r} holds more than tensors and plain values, and loading it would execute "
            f"code; export its weights where they were trained, and begin a new run from them"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(stored, dict) or "state_dict" not in stored:
        raise MisconfigurationError(f"{str(path)!r} is no checkpoint of a Trainer; name a .ckpt of a run")
    return stored


def _is_whole(path: Path) -> bool:
    """Whether every part of the file has the checksum it was written with: torch does not look."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except zipfile.BadZipFile:
        return False


def _damaged(path: Path) -> MisconfigurationError:
    return MisconfigurationError(
        f"the checkpoint {str(path)!r} is damaged or cut off, and is left as it is; go on from another one, or begin a "
        f"new run"
    )


def _write_error(error: BaseException, path: _PATH) -> OSError:
    """The disk's error: torch's writer replaces it by one of its own, which does not name the reason."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return OSError(cause.errno, os.strerror(cause.errno), str(path))
        cause = cause.__cause__ or cause.__context__
    return OSError(errno.EIO, " ".join(str(error).split()) or os.strerror(errno.EIO), str(path))
