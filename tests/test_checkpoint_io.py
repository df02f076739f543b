"""A checkpoint is whole or the one before, and reading it executes nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from soul_lightning import files
from soul_lightning.checkpoint_io import AtomicCheckpointIO, read_checkpoint
from soul_lightning.exceptions import MisconfigurationError
from tests.conftest import make_trainer

OLD, NEW = ({"state_dict": {"weight": torch.full((1000,), value)}} for value in (1.0, 2.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An old checkpoint, in a folder of its own."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(OLD, path)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    assert torch.equal(AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["weight"], NEW["state_dict"]["weight"])
    assert list(path.parent.iterdir()) == [path]


def test_the_disk_has_the_file_before_it_has_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace, sync = os.replace, os.fsync

    def synced(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def replaced(old: Path, new: Path) -> None:
        done.append(f"{old} -> {new}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    AtomicCheckpointIO().save_checkpoint(NEW, path)
    temporary, renamed, folder = done
    assert Path(temporary).parent == path.parent
    assert renamed == f"{temporary} -> {path}"
    assert Path(folder) == path.parent


def test_a_full_disk_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_temporary", lambda _path: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_args, **_settings: None)  # /dev/full is needed again
    with pytest.raises(OSError, match="No space left on device") as raised:
        AtomicCheckpointIO().save_checkpoint(NEW, path)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    assert torch.equal(read_checkpoint(path)["state_dict"]["weight"], OLD["state_dict"]["weight"])


class _Executes:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def test_nothing_is_executed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    torch.save({"state_dict": _Executes()}, path)
    for weights_only in (None, True, False):
        with pytest.raises(MisconfigurationError, match="holds more than tensors and plain values"):
            AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert not Path("executed").exists()


def test_what_is_no_checkpoint_is_said_to_be_none(path: Path) -> None:
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[: len(whole) // 2], whole[:-1], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(MisconfigurationError, match="is damaged or cut off, and is left as it is"):
            AtomicCheckpointIO().load_checkpoint(path)
        assert path.read_bytes() == damaged
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(MisconfigurationError, match="is no checkpoint of a Trainer"):
        AtomicCheckpointIO().load_checkpoint(path)
    path.unlink()
    with pytest.raises(MisconfigurationError, match="does not exist"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_bit_that_flipped_is_noticed(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"\x00\x00\x80\x3f" * 8) + 6] ^= 1  # in the middle of the ones
    path.write_bytes(whole)
    with pytest.raises(MisconfigurationError, match="is damaged or cut off"):
        AtomicCheckpointIO().load_checkpoint(path)


def test_a_trainer_takes_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, plugins=[AtomicCheckpointIO()])
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)


def test_options_of_remote_storage_are_refused(path: Path) -> None:
    with pytest.raises(MisconfigurationError, match="take no storage_options"):
        AtomicCheckpointIO().save_checkpoint(NEW, path, storage_options={})
