"""Every code block and command of README.md and docs/ does what the page says: whole pages, from top to bottom."""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from soul_lightning.cli.fitting import check_config
from soul_lightning.cli.main import COMMANDS
from tests.docs.pages import DOCS, PAGES, ROOT, SHOWN, Block, blocks, commands, name_of, named_commands
from tests.docs.shell import Desk

IN_PROCESSES_OF_THEIR_OWN = "docs/distributed.md"
OF_A_NEWCOMER = ("docs/own_model.md", "docs/quickstart.md")
"""Each command of these is run in an environment of their own, see `test_newcomer.py`."""
SLOW = ("docs/audit.md", "docs/drop_in.md", "docs/large_models.md", "docs/second_order_anywhere.md")
SHOWN_TO_OTHERS = {
    ("docs/tasks/requests.md", 1): "tests/docs/test_request_samples.py",
    ("docs/tasks/restor.md", 2): "tests/docs/test_restor_samples.py",
    ("docs/tasks/restor.md", 3): "tests/docs/test_restor_samples.py",
}
"""YAML blocks, by page and number, that are parts of recipes of other commands, and the tests that read them."""
BASE = """
model: {class_path: UnlearningModule, init_args: {network: {pretrained_model_name_or_path: model}, forget: NPO}}
data: {class_path: TinyWorldDataModule}
"""
"""Under a YAML block that is a part of a recipe."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (name_of(page) in SLOW))
        for page in PAGES
        if name_of(page) not in OF_A_NEWCOMER
    ],
)
def test_a_page_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page.name == "large_models.md":
        pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    desk = Desk(tmp_path, monkeypatch, trains=name_of(page) != IN_PROCESSES_OF_THEIR_OWN)
    found = blocks(page)
    yamls = [block for block in found if block.language == "yaml"]
    for block, after in zip(found, [*found, None][1:], strict=True):
        if block.language == "bash":
            _work_through(block, after, desk, capsys)
        elif block.language == "python":
            path = Path(block.file_name or "block.py")
            path.write_text(block.text)
            runpy.run_path(str(path))
        elif block.language == "yaml":
            _read(block, yamls)
        else:
            assert block.language in SHOWN, f"{block.place}: no rule says what to do with {block.language!r}"
    for command in named_commands(page):
        for words in commands(command):
            if words[:1] == ["soul-lightning"] and len(words) == 2:
                assert words[1] in COMMANDS or words[1] == "--help", command
            else:
                assert desk.do(words) == 0, f"{name_of(page)}: `{command}`"


def _work_through(block: Block, after: Block | None, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of a script; where the page shows an error below, that is what the last one must say."""
    fails = after is not None and after.text.startswith("error: ")
    for words in commands(block.text):
        capsys.readouterr()
        code = desk.do(words)
        said = capsys.readouterr().err
        assert code == (2 if fails else 0), f"{block.place}: {shlex.join(words)}\n{said}"
        if fails and after is not None:
            assert said.strip().splitlines()[-1].replace(str(desk.folder), "/data") == after.text.strip(), block.place


def _read(block: Block, yamls: list[Block]) -> None:
    """A recipe, or a part of one, is parsed; one with a name becomes a file for the commands below."""
    number = yamls.index(block)
    if (name_of(block.page), number) in SHOWN_TO_OTHERS:
        return
    Path("base.yaml").write_text(BASE)
    path = Path(block.file_name or "block.yaml")
    path.write_text(block.text)
    content = yaml.safe_load(block.text)
    configs = ["base.yaml"]
    if "model" in content and "class_path" in content["model"]:
        configs = []
    elif block.file_name and yamls[0].file_name:
        configs = [yamls[0].file_name]
    if set(content) <= {"model", "data", "trainer", "seed_everything"}:
        configs.append(str(path))
        check_config([word for config in configs for word in ("--config", config)], "page")
    elif "audit" in content or "layers" in content:
        return  # for the command below
    else:  # settings of the DataModule that the page showed first, one a line
        Path("data.yaml").write_text(yamls[0].text)
        for line in block.text.splitlines():
            given = [f"--data.init_args.{name}={yaml.safe_dump(value)}" for name, value in yaml.safe_load(line).items()]
            check_config(["--config", "base.yaml", "--config", "data.yaml", *given], "page")


@pytest.mark.slow
def test_the_runs_of_several_processes(tmp_path: Path) -> None:
    """In processes of their own: lightning starts the second one by the command line of the first."""
    scripts = []
    for block in blocks(ROOT / IN_PROCESSES_OF_THEIR_OWN):
        if block.language == "yaml":
            assert block.file_name is not None
            (tmp_path / block.file_name).write_text(block.text)
        elif block.text.startswith("soul-lightning"):
            scripts.append(block.text)
    assert len(scripts) == 2
    log = tmp_path / "log.txt"  # a pipe would stay open as long as any of the processes
    for script in scripts:
        with log.open("w") as file:
            done = subprocess.run(
                [sys.executable, "-m", "soul_lightning.cli", *shlex.split(script)[1:]],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(DOCS.parent), "MASTER_PORT": str(find_free_network_port())},
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=300,
            )
        assert done.returncode == 0, log.read_text()[-2000:]
    assert len(list(tmp_path.glob("runs/*/*/summary.json"))) == 2


def test_an_objective_fits_on_a_page() -> None:
    (block,) = [block.text for block in blocks(DOCS / "custom_objective.md") if block.language == "python"]
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
