"""Named lines under a title, as they stand at the start and the end of a command."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping

from rich.console import Console
from rich.text import Text

MOST_COLUMNS = 120
_NAME = 10


def show_panel(console: Console, title: str, lines: Mapping[str, str], whole: Collection[str] = ()) -> None:
    """Print lines by name between two rules.

    There is no frame at the sides: what is copied from the screen would hold it.

    Args:
        console: Where.
        title: Stands in the first rule.
        lines: Text by name; longer text goes on below its beginning.
        whole: Names of lines that hold a path or a command, which are not broken but by the terminal itself.
    """
    width = min(console.width, MOST_COLUMNS)
    console.print(Text(f"── {title} {'─' * max(2, width - len(title) - 4)}"[:width], style="bold"), soft_wrap=True)
    for name, text in lines.items():
        wrapped = textwrap.wrap(text, max(20, width - _NAME), break_long_words=False, break_on_hyphens=False)
        parts = [text] if name in whole else wrapped
        for place, part in enumerate(parts or [""]):
            console.print(Text.assemble(((name if not place else "").ljust(_NAME), "dim"), part), soft_wrap=True)
    console.print(Text("─" * width, style="bold"), soft_wrap=True)
