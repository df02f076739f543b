"""Somebody who has never seen the project: every command of README's first block and of two pages, in an empty home.

The commands are those of the pages, and so is what is expected of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.error import URLError

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from soul_lightning.cli.main import main
from soul_lightning.run_folder import read_summary
from tests.docs.clean_environment import fill
from tests.docs.pages import DOCS, ROOT, Block, blocks, commands, named_commands

pytestmark = pytest.mark.slow

HOME = "/home/me/unlearning"
"""The newcomer's folder on the pages."""
COLUMNS = ("true", "false", "control", "restoration")
"""Of the quickstart's table, which a table of the page explains."""
CURVE = re.compile(r"`((?:train|curvature)/\w+)`")
NUMBER = re.compile(r"[+-]?\d+\.?\d*(?:e-?\d+)?")
LEFT_OUT = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "lightning_logs", "runs", "site")


@dataclass
class Newcomer:
    """A folder and an environment that hold nothing of anybody else.

    Attributes:
        folder: Where the newcomer is.
        environment: All environment variables.
        printed: What each command wrote to stdout.
    """

    folder: Path
    environment: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, words: list[str]) -> str:
        """Run a command, which must succeed; what it wrote to stdout."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        self.printed[shlex.join(words)] = done.stdout
        return done.stdout

    def work_through(self, page: list[Block]) -> None:
        """Write the files of a page and run its commands; what is shown below a command is what it printed."""
        printed = ""
        for block, fails in with_mistakes(page):
            if fails:
                continue
            if block.file_name:
                (self.folder / block.file_name).write_text(block.text)
            if block.language == "python":
                printed = self.run(["python", str(block.file_name)])
            elif block.language == "text":
                assert_printed(block.text, printed, block.place)
            elif block.language == "bash":
                for words in commands(block.text):
                    if words[0] == "tensorboard":
                        self.look_at_curves(words, set(CURVE.findall(block.page.read_text())))
                    else:
                        printed = self.run(words)
        for command in named_commands(page[0].page):
            self.run(shlex.split(command))

    def look_at_curves(self, words: list[str], wanted: set[str]) -> None:
        """Start a TensorBoard, which must serve every curve that is wanted."""
        assert wanted
        port = find_free_network_port()
        with running([*words, "--port", str(port)], self.folder, self.environment) as server:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and server.poll() is None:
                try:
                    with urllib.request.urlopen(f"http://localhost:{port}/data/plugin/scalars/tags") as answer:
                        runs: dict[str, dict[str, object]] = json.load(answer)
                    if any(wanted <= set(curves) for curves in runs.values()):  # it listens before it has read
                        return
                except URLError:
                    pass
                time.sleep(0.2)
        raise AssertionError(f"{shlex.join(words)} did not serve {wanted}")


@contextmanager
def running(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def with_mistakes(page: list[Block]) -> list[tuple[Block, bool]]:
    """The blocks, each with whether it is a mistake or the error that it gets."""
    errors = [block.text.startswith("error: ") for block in page]
    return [(block, any(errors[number : number + 2])) for number, block in enumerate(page)]


def taken_apart(line: str) -> tuple[str, list[float]]:
    """A line's words without its numbers and the frame of a table; the numbers."""
    plain = re.sub(r"[│┃]", " ", line)
    return " ".join(NUMBER.sub("#", plain).split()), [float(number) for number in NUMBER.findall(plain)]


def assert_printed(shown: str, printed: str, place: str) -> None:
    """Every line of a page was printed; of numbers the last digits may differ, as processors round differently."""
    lines = [taken_apart(line) for line in printed.splitlines()]
    for line in shown.splitlines():
        words, numbers = taken_apart(line)
        found = [others for text, others in lines if text == words]
        assert any(numbers == pytest.approx(others, abs=0.02, rel=0.02) for others in found) or not re.search(
            r"\w", words
        ), f"{place}: {line}\n{printed}"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    """In a copy of the checkout, after the installation: a new virtual environment, an empty home, and no network."""
    (readme, *_), (page, *_) = (blocks(path) for path in (ROOT / "README.md", DOCS / "quickstart.md"))
    install, _ = commands(readme.text)
    clone, enter, make, activate, same = commands(page.text)
    assert (clone[:2], enter[0], activate, same) == (["git", "clone"], "cd", [".", ".venv/bin/activate"], install)
    checkout = tmp_path_factory.mktemp("newcomer") / "soul_lightning"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=LEFT_OUT)
    home = tmp_path_factory.mktemp("home")
    path, threads = f"{checkout / '.venv' / 'bin'}:/usr/bin:/bin", os.environ.get("OMP_NUM_THREADS", "1")
    found = Newcomer(checkout, {"HOME": str(home), "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads})
    subprocess.run([sys.executable, *make[1:]], cwd=checkout, check=True)
    found.run(["pip", "uninstall", "--quiet", "--yes", "setuptools"])  # an old one, of Python 3.11's venv
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    fill(checkout / make[-1], [*project["project"]["dependencies"], *project["build-system"]["requires"]])
    found.run([*install, "--no-index", "--no-build-isolation"])  # what is missing is not fetched
    return found


def test_the_quickstart(newcomer: Newcomer) -> None:
    readme, page = blocks(ROOT / "README.md"), blocks(DOCS / "quickstart.md")
    newcomer.work_through(page[1:])
    _, fit = commands(readme[0].text)
    assert_printed(readme[1].text, newcomer.printed[shlex.join(fit)], readme[1].place)
    (run,) = (newcomer.folder / "runs" / "quickstart").iterdir()
    text = (DOCS / "quickstart.md").read_text()
    listed = [line.split("|")[1] for line in text.splitlines() if re.match(r"\| `[\w/]+(\.|`)", line)]
    names = [name for cell in listed for name in re.findall(r"`(.+?)`", cell) if name not in COLUMNS]
    assert len(names) > 5 and all((run / name).exists() for name in names), names
    answers = [json.loads(line) for path in run.glob("rows/restoration_*.jsonl") for line in path.open()]
    told = [json.loads(line) for block in page if block.language == "json" for line in block.text.splitlines()]
    assert told and all(any(row.items() <= answer.items() for answer in answers) for row in told)


def test_a_model_of_ones_own(
    newcomer: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = blocks(DOCS / "own_model.md")
    own = replace(newcomer, folder=tmp_path, printed={})
    own.work_through(page)
    (row,) = (json.loads(block.text) for block in page if block.language == "json")
    assert row == json.loads((tmp_path / "forget.jsonl").read_text().splitlines()[0])
    assert list((tmp_path / "runs" / "first").glob("events.out.tfevents.*"))

    rows = (tmp_path / "runs" / "first" / "rows" / "memorization_after.jsonl").read_text().splitlines()
    answers = [row["answer"] for row in map(json.loads, rows) if row["probe"] == "forget_questions"]
    said = own.printed["python ask.py"].splitlines()
    assert [line.split()[-1] for line in said] == answers and len(answers) == 18

    (validated,) = (tmp_path / "runs" / "my").iterdir()
    first, again = (read_summary(folder) for folder in (tmp_path / "runs" / "first", validated))
    assert first is not None and again is not None
    for name in ("memorization/probability", "utility/utility_probability"):
        assert again[name] == pytest.approx(first[name], rel=1e-5)
    assert (tmp_path / "audited" / "audit.html").is_file()
    audit = next(printed for command, printed in own.printed.items() if " audit " in command)
    assert "unclear" in audit and "of 18 questions" in audit and "about 3 subjects" in audit

    table = [taken_apart(line) for line in own.printed["python my_project.py"].splitlines()]
    for name in ("probability # #", "retain_probability # #"):
        assert [len(numbers) for words, numbers in table if words == name] == [2]

    monkeypatch.chdir(tmp_path)
    mistakes = [block for block, fails in with_mistakes(page) if fails]
    for block, shown in zip(mistakes[::2], mistakes[1::2], strict=True):
        (words,) = commands(block.text)
        before = sorted(tmp_path.rglob("*"))
        assert main(words[1:]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        expected = shown.text.replace(HOME, str(tmp_path)).strip()
        assert error.startswith(expected[:-1]) if expected.endswith("…") else error == expected
        assert sorted(tmp_path.rglob("*")) == before
    assert len(mistakes) >= 10
