"""Names out of configurations that become names of files: none of them leads out of its folder."""

from __future__ import annotations

from soul_lightning.exceptions import MisconfigurationError

_MOST_CHARACTERS = 200
"""File systems take 255 bytes; endings and numbers are added to a name."""


def check_file_name(name: str, what: str) -> str:
    """A name that is one part of a path.

    Args:
        name: The name.
        what: What it is, for the message.

    Returns:
        The name.

    Raises:
        MisconfigurationError: It is empty, too long, `.` or `..`, or holds a separator or a control character.
    """
    is_part = name.strip() and name not in (".", "..") and len(name) <= _MOST_CHARACTERS
    if not is_part or any(character in "/\\" or not character.isprintable() for character in name):
        raise MisconfigurationError(
            f"{what} is {name!r:.60}, which would name a file and cannot: give a word without '/', '\\' and control "
            f"characters, other than '.' and '..'"
        )
    return name
