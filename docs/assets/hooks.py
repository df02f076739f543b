"""What the site has beyond docs/: three pages that stand at the top of the repository, and every command's --help."""

import io
import posixpath
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from soul_lightning.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
AT_THE_TOP = ("CHANGELOG", "CONTRIBUTING", "SECURITY")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside of docs/."""
    for name in AT_THE_TOP:
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, f"{name.lower()}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Have links to those pages find them, sentences wrap, and each command say what it says of itself."""
    here = posixpath.dirname(page.file.src_uri)
    names = "|".join(AT_THE_TOP)

    def place(link: re.Match[str]) -> str:
        return f"]({posixpath.relpath(f'{link[1].lower()}.md', here)}"

    text = re.sub(rf"\]\((?:\.\./)*({names})\.md", place, markdown)
    text = re.sub(r"^```text\n(?=error: )", "```{ .text .wrapped }\n", text, flags=re.MULTILINE)
    if page.file.src_uri == "reference/commands.md":
        text += "".join(f"\n## {name}\n\n```text\n{_help(name)}\n```\n" for name in COMMANDS)
    return text


def _help(command: str) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        main([command, "--help"])
    return said.getvalue().strip()
