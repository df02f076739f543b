"""The pages, and what stands in them as code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *DOCS.rglob("*.md")]
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
COMMANDS = ("soul-lightning ", "python -m ", "pip install ", "OMP_NUM_THREADS=")
SHOWN = ("", "text", "json", "jsonl", "csv")
"""What is looked at and not run; tests of their own hold rows, files and errors to what comes out."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands behind the fence.
        text: Its lines.
        line: Where it begins, from 1.
        page: The page.
    """

    language: str
    text: str
    line: int
    page: Path

    @property
    def place(self) -> str:
        """Where it stands, for a message."""
        return f"{name_of(self.page)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is a program or a script."""
        return self.language in ("bash", "python")

    @property
    def file_name(self) -> str | None:
        """The file that it says it is, in its first line."""
        found = re.match(r"# ([\w-]+\.(?:py|yaml))\n", self.text)
        return found[1] if found else None


def name_of(page: Path) -> str:
    """A page by its path from the top."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; those within a list without their indent."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found[2],
            re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE),
            text.count("\n", 0, found.start()) + 1,
            page,
        )
        for found in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def named_commands(page: Path) -> list[str]:
    """Commands that stand within a sentence; those with an ellipsis name a part of one."""
    spans = (" ".join(span.split()) for span in SPAN.findall(prose(page)))
    return [span for span in spans if span.startswith(COMMANDS) and "…" not in span]


def commands(script: str) -> Iterator[list[str]]:
    """The commands of a shell script, in order: joined lines, no comments, both sides of `&&`, no environment."""
    for line in re.sub(r"\\\n", " ", script).splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and re.fullmatch(r"[A-Z_]+=\S*", command[0]):
                command = command[1:]
            if command:
                yield command
