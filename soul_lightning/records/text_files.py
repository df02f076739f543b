"""UTF-8 text out of files, packed with gzip or not; what is wrong with one is a sentence with its line."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from soul_lightning.exceptions import MisconfigurationError

GZIP_SUFFIX = ".gz"
_PACKING_FAULTS = (gzip.BadGzipFile, EOFError, zlib.error)
_VISIBLE = re.compile(r"[^\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
"""Anything but white space, soft hyphens and the signs without width that join, separate and direct others."""
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order marks of other encodings; those of UTF-32 come first, for UTF-16's begins one of them."""


def local_path(text: str) -> Path:
    """The path that is meant, `~` and `~name` replaced by a home folder where there is one."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def says_something(text: str) -> bool:
    """Whether there is anything to be seen in a text."""
    return _VISIBLE.search(text) is not None


def read_text(path: Path) -> str:
    """The whole of a file, every line end a newline; see `text_lines`."""
    return "".join(text_lines(path))


def text_lines(path: Path, keep_line_ends: bool = False) -> Iterator[str]:
    r"""The lines of a UTF-8 file, one after another, without a byte order mark; unpacked if its name ends in .gz.

    A line ends with \n, \r\n or \r and with nothing else: U+2028 may stand inside of a text.

    Args:
        path: The file.
        keep_line_ends: Leave line ends as they are in the file, in place of one newline each.

    Raises:
        MisconfigurationError: The file cannot be read, is no whole gzip file, or is not UTF-8 text.
    """
    try:
        with (
            _opened(path) as data,
            io.TextIOWrapper(data, encoding="utf-8-sig", newline="" if keep_line_ends else None) as lines,
        ):
            for number, line in enumerate(lines, start=1):
                if "\0" in line:
                    raise MisconfigurationError(
                        f"{path}:{number} holds a NUL character, which no text does (UTF-16 and binary files do); save "
                        f"it as UTF-8"
                    )
                yield line
    except UnicodeDecodeError as error:
        raise MisconfigurationError(_other_encoding(path)) from error
    except _PACKING_FAULTS as error:
        raise MisconfigurationError(_no_gzip(path, error)) from error
    except OSError as error:
        raise MisconfigurationError(
            f"{path} cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from error


def _opened(path: Path) -> IO[bytes]:
    packed = path.suffix.lower() == GZIP_SUFFIX
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _no_gzip(path: Path, error: Exception) -> str:
    return f"{path} is no whole gzip file ({error}); pack or fetch it again, or take .gz off its name"


def _other_encoding(path: Path) -> str:
    """What a file is that cannot be decoded; it is read once more, for the decoder only knows its place in a block."""
    try:
        with _opened(path) as file:
            data = file.read()
    except _PACKING_FAULTS as error:
        return _no_gzip(path, error)
    mark = next((mark for mark in _OTHER_MARKS if data.startswith(mark)), None)
    if mark is not None:
        return f"{path}:1 begins with the byte order mark of {_OTHER_MARKS[mark]}; save it as UTF-8"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0)
        line = len(data[:start].decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        return f"{path}:{line} is not UTF-8 text (byte {start}); save it as UTF-8"
    return f"{path} is not UTF-8 text; save it as UTF-8"
