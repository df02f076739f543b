"""Every code block and command of the documentation does what the page says."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from soul_lightning.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w-]+\.(?:py|yaml))\n")
PAGES = [
    "custom_objective.md",
    "second_order_anywhere.md",
    "drop_in.md",
    "guards.md",
    "large_models.md",
    "countermeasures.md",
    "audit.md",
    "dashboard.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_from_top_to_bottom(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "large_models.md":
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = 0
    for language, text in BLOCK.findall((DOCS / page).read_text()):
        if language == "bash":
            for line in text.strip().splitlines():
                command, *arguments = shlex.split(line)
                assert command == "soul-lightning"
                assert main([*arguments, "--trainer.enable_progress_bar=false"]) == 0
        else:
            name = FILE_NAME.match(text)
            assert name is not None, f"{page}: a {language} block without a file name"
            Path(name[1]).write_text(text)
            if language == "python":
                runpy.run_path(name[1])
        done += 1
    assert done == len(re.findall(r"^```\w+$", (DOCS / page).read_text(), re.MULTILINE)) > 0


@pytest.mark.slow
def test_the_runs_of_several_processes(tmp_path: Path) -> None:
    """In processes of their own: lightning starts the second one by the command line of the first."""
    text = (DOCS / "distributed.md").read_text()
    for language, block in BLOCK.findall(text):
        if language == "yaml":
            name = FILE_NAME.match(block)
            assert name is not None
            (tmp_path / name[1]).write_text(block)
    commands = [block.strip() for language, block in BLOCK.findall(text) if language == "bash"]
    assert len(commands) == 2
    log = tmp_path / "log.txt"  # a pipe would stay open as long as any of the processes
    for command in commands:
        with log.open("w") as file:
            done = subprocess.run(
                [sys.executable, "-m", "soul_lightning.cli", *shlex.split(command)[1:]],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(DOCS.parent), "MASTER_PORT": str(find_free_network_port())},
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=300,
            )
        assert done.returncode == 0, log.read_text()[-2000:]
    assert len(list(tmp_path.glob("runs/*/*/summary.json"))) == 2


def test_an_objective_fits_on_a_page() -> None:
    (block,) = [text for language, text in BLOCK.findall((DOCS / PAGES[0]).read_text()) if language == "python"]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
