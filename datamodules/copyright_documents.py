"""Plain-text documents: files and folders of them, without Project Gutenberg's frame, with their chapters."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.text_files import GZIP_SUFFIX, local_path, read_text, says_something

_START = re.compile(r"^\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)[^\n]*\n", re.MULTILINE | re.I)
_END = re.compile(
    r"^(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)|End of (?:the )?Project Gutenberg)",
    re.MULTILINE | re.I,
)
_HEADING = re.compile(
    r"(?:\A|\n[ \t]*\n)[ \t]*("
    r"(?:CHAPTER|ADVENTURE|LETTER|STAVE|CANTO|PART|BOOK|Chapter|Adventure|Letter|Stave|Canto|Part|Book)"
    r" +(?:[IVXLCDM]+|\d+)\b[^\n]*"
    r"|[IVXLCDM]+\. +[A-Z][A-Z '’,;:-]+(?=\n))"
)
"""A line after an empty one that says "Chapter 4 …", or a Roman numeral and a title in capitals."""


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        name: The file's name without its ending.
        text: What stands in it.
        headings: Where each chapter begins, in characters, and what it is called.
    """

    name: str
    text: str
    headings: Sequence[tuple[int, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find the chapters."""
        found = [(match.start(1), " ".join(match[1].split())) for match in _HEADING.finditer(self.text)]
        object.__setattr__(self, "headings", found)

    def part_at(self, place: int) -> str:
        """The document's name and, where there are chapters, the one that character `place` stands in."""
        number = bisect_right([start for start, _ in self.headings], place)
        return f"{self.name}: {self.headings[number - 1][1]}" if number else self.name


def find_documents(paths: Sequence[str]) -> list[Path]:
    """The files that are meant: each path a file, or a folder whose .txt files are taken in the order of their names.

    Raises:
        MisconfigurationError: There is no such path, a folder has no .txt file, or no path is given.
    """
    if not paths or not all(path.strip() for path in paths):
        raise MisconfigurationError("documents is empty; give a text file, a list of them, or a folder of .txt files")
    files: list[Path] = []
    for given in paths:
        path = local_path(given).absolute()
        if not path.exists():
            raise MisconfigurationError(f"documents: there is no file and no folder {path}; check the path")
        inside = sorted(path.glob("*.txt")) if path.is_dir() else [path]
        if not inside:
            raise MisconfigurationError(f"documents: the folder {path} holds no .txt file; name the files one by one")
        files.extend(inside)
    return files


def read_documents(files: Sequence[Path], strip_gutenberg: bool) -> list[Document]:
    """Read UTF-8 texts, with or without a byte order mark, packed (`.txt.gz`) or not.

    Args:
        files: The files.
        strip_gutenberg: Take off what stands before Project Gutenberg's START line and after its END line.

    Raises:
        MisconfigurationError: A file cannot be read, is not UTF-8, has no text, or says the same as another.
    """
    documents = []
    seen: dict[str, Path] = {}
    for path in files:
        text = read_text(path)
        text = without_gutenberg_frame(text) if strip_gutenberg else text
        words = " ".join(text.split())
        if not says_something(text):
            raise MisconfigurationError(f"documents: {path} has no text; leave it out")
        if words in seen:
            raise MisconfigurationError(
                f"documents: {path} says the same as {seen[words]}, so that held-out passages of one would be trained "
                f"on in the other; name it once"
            )
        seen[words] = path
        documents.append(Document(Path(path.name.removesuffix(GZIP_SUFFIX)).stem, text))
    return documents


def without_gutenberg_frame(text: str) -> str:
    """The text between Project Gutenberg's START and END lines; the whole where it has none."""
    start, end = _START.search(text), _END.search(text)
    if not start and not end:
        return text
    begin = start.end() if start else 0
    end = _END.search(text, begin)
    return text[begin : end.start() if end else None].strip("\n") + "\n"
