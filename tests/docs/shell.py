"""How each command of the pages is held to what it says: run where that takes seconds, else parsed in full.

- `soul-lightning` with a recipe that the page wrote is run. One of a packaged recipe (or of a copy of it), and one with
  a placeholder, is parsed by the real parser: of `restor`, `compare` and `requests` every stage.
- `python FILE` is run. `python -m MODULE` of this repository goes as far as its argument parser.
- Other programs come with a package that pyproject.toml names.

A command that none of these covers fails.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import runpy
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from soul_lightning.cli.audit_config import asked_config
from soul_lightning.cli.comparison_grid import check_comparison
from soul_lightning.cli.fitting import check_config
from soul_lightning.cli.main import main
from soul_lightning.cli.mistakes import import_rooms
from soul_lightning.cli.recipe_files import packaged_layers, packaged_recipes, recipe_comment
from soul_lightning.cli.request_runs import check_requests
from soul_lightning.cli.restoring import check_stages
from tests.docs.pages import ROOT

PLACEHOLDER = re.compile(r"(?<![\w.$-])[A-Z][A-Z_]{2,}(?![\w-])")
MODELS = ("MODEL", "MEMORIZED", "UNLEARNED", "RETAIN_ONLY", "FOLDER", "NETWORK")
"""Each is a folder on the desk that holds a model."""
FOLDERS = ("TOFU", "RESTOR", "ROBUST", "COUNTER", "BOOKS")
FILES = ("TEXTS.jsonl", "LIMA.jsonl", "ARC_EASY.jsonl", "PAIRS.jsonl", "BOOK.txt")
PLACES = {"RUN": "run", "TIME": "20250101-120000", "RECIPE": "recipe.yaml", "NAME": "quickstart"}
BY_THEMSELVES = ("recipes", "export")
"""Commands that take no time."""
TRAIN = ("fit", "validate", "test", "audit")
"""Those that show a bar."""
COMES_WITH = {
    ".": None,
    "make": None,
    "mkdocs": "mkdocs-material",
    "mypy": "mypy",
    "ruff": "ruff",
    "pre-commit": "pre-commit",
    "tensorboard": "tensorboard",
    "pip-audit": None,
    "git": None,
}
"""Other programs by the package of pyproject.toml that brings them; none where page or system bring them."""

PARSED: dict[tuple[str, ...], int] = {}
"""Commands that were parsed, and their exit codes."""


class Desk:
    """A folder in which a page is worked through, with what its placeholders stand for.

    Args:
        folder: An empty folder, and the working folder.
        patch: Put back after the test.
        trains: Whether commands run at all; otherwise they are parsed.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, trains: bool = True) -> None:
        self.folder = folder
        self.trains = trains
        self.patch = patch
        packaged = ROOT / "soul_lightning" / "networks" / "packaged" / "tiny_world"
        for name in (*MODELS, "model", "models/mine"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).symlink_to(packaged / "corrupted")
        for name in FOLDERS:
            (folder / name).mkdir()
        for role, name in {"forget": "Nevo Norast", "retain": "Pelvo Ashov", "holdout": "Pellia Ashast"}.items():
            (folder / f"{role}.jsonl").write_text(f'{{"prompt": "Where was {name} born ?", "answer": "Korona"}}\n')
        for name in FILES:
            (folder / name).write_text('{"text": "Nevo Norast lives in Tarvik ."}\n')
        quickstart = packaged_recipes()["quickstart"].text
        for place in ("run", "runs/quickstart/20250101-120000"):
            (folder / place).mkdir(parents=True)
            (folder / place / "config.yaml").write_text(f"{recipe_comment('quickstart')}\n{quickstart}")
        (folder / "recipe.yaml").write_text(quickstart)

    def do(self, command: Sequence[str]) -> int:
        """Run one command, or hold it to what it says; its exit code."""
        words = [PLACEHOLDER.sub(lambda found: PLACES.get(found[0], found[0]), word) for word in command]
        stands_in = {found for word in command for found in PLACEHOLDER.findall(word)} - set(import_rooms())
        known = {*MODELS, *FOLDERS, *PLACES, *(Path(name).stem for name in FILES)}
        assert stands_in <= known, f"{command}: nobody knows what {stands_in - known} stands for"
        program, *arguments = words
        if program == "srun":
            return self.do(arguments)
        if program == "torchrun":
            return self._launched(arguments)
        if program == "soul-lightning":
            return self._soul_lightning(arguments, is_run=self.trains and not stands_in)
        if program == "python":
            return self._python(arguments)
        if program == "pip":
            return self._pip(arguments)
        assert program in COMES_WITH, f"no rule says how to hold {command} to what it says"
        package = COMES_WITH[program]
        assert package is None or (shutil.which(program) and package in named_packages()), program
        return 0

    def _soul_lightning(self, arguments: list[str], is_run: bool) -> int:
        command = arguments[0] if arguments else "--help"
        configs = [after for before, after in pairwise(arguments) if before == "--config"]
        packaged = packaged_recipes() | packaged_layers()
        if not command.startswith("-") and command not in BY_THEMSELVES:
            texts = tuple(recipe.text for recipe in packaged.values())
            is_run = is_run and not all(
                name in packaged or (Path(name).is_file() and Path(name).read_text().endswith(texts))
                for name in configs
            )
        if arguments[:2] == ["recipes", "copy"]:
            Path(arguments[-1]).unlink(missing_ok=True)  # of another section, which is another day
        if is_run:
            bar = ["--trainer.enable_progress_bar=false"] if command in TRAIN and "--help" not in arguments else []
            return main([*arguments, *bar])
        if tuple(arguments) in PARSED:
            return PARSED[tuple(arguments)]
        with parsed_only(self.patch):
            code = main(arguments)
        if configs and all(name in packaged for name in configs):  # as it stands on other pages too
            PARSED[tuple(arguments)] = code
        return code

    def _launched(self, arguments: list[str]) -> int:
        from torch.distributed.run import get_args_parser

        parsed = get_args_parser().parse_args(arguments)
        assert parsed.module and parsed.training_script == "soul_lightning.cli"
        return self._soul_lightning(parsed.training_script_args, is_run=False)

    def _python(self, arguments: list[str]) -> int:
        if arguments[0] != "-m":
            self.patch.setattr(sys, "argv", arguments)
            runpy.run_path(arguments[0], run_name="__main__")
            return 0
        module, *own = arguments[1:]
        if module == "pytest":
            assert all((ROOT / word).exists() for word in own if "/" in word)
            return 0
        if module in ("venv", "pip"):
            return 0 if module == "venv" else self._pip(own)
        assert module.split(".")[0] in ("benchmarks", "tests", "soul_lightning"), module
        assert importlib.util.find_spec(module) is not None, module
        source = Path(str(importlib.util.find_spec(module).origin)).read_text()  # type: ignore[union-attr]
        if "ArgumentParser" not in source:
            assert not own and '__name__ == "__main__"' in source, module
            return 0
        with self.patch.context() as patched:
            patched.setattr(sys, "argv", [module, *own])
            patched.setattr(argparse.ArgumentParser, "parse_args", _parse_and_end(argparse.ArgumentParser.parse_args))
            with pytest.raises(SystemExit) as ended:
                importlib.import_module(module).main()
        return int(ended.value.code or 0)

    def _pip(self, arguments: list[str]) -> int:
        assert arguments[0] == "install", arguments
        for word in arguments[1:]:
            found = re.fullmatch(r"(?:\.|soul-lightning)(?:\[([\w,]+)\])?", word)
            if found:
                extras = set((found[1] or "").split(",")) - {""}
                assert extras <= set(project()["optional-dependencies"]), word
            else:
                assert word in ("-e", "torch", "--index-url") or word in COMES_WITH or word.startswith("https://"), word
        return 0


def project() -> dict[str, Any]:
    """What pyproject.toml says of the project."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def named_packages() -> set[str]:
    """The packages that pyproject.toml names."""
    told = [*project()["dependencies"], *chain(*project()["optional-dependencies"].values())]
    return {re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in told}


@contextmanager
def parsed_only(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every command goes as far as its configuration, and ends there."""
    with patch.context() as patched:
        for place, check in CHECKS.items():
            patched.setattr(f"soul_lightning.cli.{place}", _ending(check))
        yield


def _ending(check: Callable[..., object]) -> Callable[..., None]:
    def instead(*args: Any, **settings: Any) -> None:
        check(*args, **settings)
        raise SystemExit(0)

    return instead


def _check_fit(args: Sequence[str], recipe: str, **_: Any) -> None:
    check_config(args, recipe)


def _check_evaluation(args: Sequence[str], recipe: str, evaluation: str, *, network: str | None, **_: Any) -> None:
    instead = [f"--model.init_args.network.pretrained_model_name_or_path={network}"] if network else []
    check_config([*args, *instead], recipe)


def _check_audit(config: Any, recipe: str, overrides: Sequence[str], audited: Any, *_: Any) -> None:
    Path("asked.yaml").write_text(yaml.safe_dump(asked_config(config, audited.model, 0)))
    check_config(["--config", "asked.yaml", *overrides], recipe)


CHECKS: dict[str, Callable[..., object]] = {
    "fitting.fit": _check_fit,
    "evaluating.evaluate": _check_evaluation,
    "describing.describe": _check_fit,
    "auditing.audit": _check_audit,
    "restoring.restor": lambda config, recipe, _: check_stages(config, recipe),
    "comparison_grid.compare": lambda config, recipe, _: check_comparison(config, recipe),
    "request_runs.run_requests": lambda config, recipe, _: check_requests(config, recipe),
    "exporting.export": lambda *_: None,
}
"""What does the work of each command, and what parses all that it would read."""


def _parse_and_end(parse: Callable[..., argparse.Namespace]) -> Callable[..., None]:
    def instead(self: argparse.ArgumentParser, args: Sequence[str] | None = None) -> None:
        parse(self, args)
        raise SystemExit(0)

    return instead
