"""A configuration of several layers as YAML: with the comments of each, and where each part is from."""

from __future__ import annotations

from collections.abc import Iterator

from soul_lightning.cli.recipe_layers import Section

_FIT = ("seed_everything", "model", "data", "trainer")
"""What the settings of a `fit` are, in the order in which they are read best."""
_WIDTH, _COMMENTS = 120, 40
"""Columns: where a line is too long, and where comments begin."""


def written(section: Section, origins: bool) -> str:
    """A configuration as YAML.

    Args:
        section: The configuration.
        origins: Say behind each part which file it is from.
    """
    entries = section.entries
    if set(entries) <= set(_FIT):
        entries = {key: entries[key] for key in _FIT if key in entries}
    return "".join(f"{line}\n" for line in _lines(Section(entries), origins, ""))


def _lines(section: Section, origins: bool, indent: str) -> Iterator[str]:
    for key, entry in section.entries.items():
        source = _origin(entry.value) if isinstance(entry.value, Section) else entry.origin
        yield from (f"{indent}{line}" for line in entry.above)
        notes = [entry.comment] if entry.comment else []
        if origins and source:
            notes.append(f"[{source}]")
        comment = f"  # {'  '.join(notes)}" if notes else ""
        # Inside of a part that is of one file its name is not repeated.
        below = origins and not source
        if isinstance(entry.value, str) and _stands_in_lines(entry.value):
            yield _commented(f"{indent}{key}:", comment)
            yield from (f"{indent}  {line}" if line else "" for line in entry.value.split("\n"))
            continue
        line = f"{indent}{key}: {_braces(entry.value)}" if _fits(entry.value, below) else ""
        if not line or (isinstance(entry.value, Section) and len(line) > _WIDTH):
            yield _commented(f"{indent}{key}:", comment)
            assert isinstance(entry.value, Section)
            yield from _lines(entry.value, below, f"{indent}  ")
        elif len(_commented(line, comment)) > _WIDTH:
            yield f"{indent}{comment.strip()}"
            yield line
        else:
            yield _commented(line, comment)


def _commented(line: str, comment: str) -> str:
    return f"{line:<{_COMMENTS - 2}}{comment}" if comment else line


def _origin(section: Section) -> str:
    """The one file that all of a mapping is from; empty where it is of several."""
    found = {
        _origin(entry.value) if isinstance(entry.value, Section) else entry.origin for entry in section.entries.values()
    }
    return found.pop() if len(found) == 1 else ""


def _fits(value: Section | str, origins: bool) -> bool:
    """Whether a value can stand in one line without losing a comment."""
    if isinstance(value, str):
        return not _stands_in_lines(value)
    return (
        value.flow
        and not origins
        and all(_fits(entry.value, False) and not entry.comment for entry in value.entries.values())
    )


def _stands_in_lines(text: str) -> bool:
    """Whether a value is a list with a line for each part."""
    return text.startswith("- ")


def _braces(value: Section | str) -> str:
    if isinstance(value, str):
        return value
    return "{" + ", ".join(f"{key}: {_braces(entry.value)}" for key, entry in value.entries.items()) + "}"
