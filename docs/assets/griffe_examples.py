"""Docstrings here say `Example:`, griffe's Google style reads doctests of `Examples:` alone."""

import re
from typing import Any

from griffe import Extension, Object


class ExampleSections(Extension):
    """Has doctests rendered as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the section before it is read."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
