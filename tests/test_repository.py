"""What stands around the code: the daily commands, hooks, citation, changelog, forms. All of it is true."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import soul_lightning
from soul_lightning.cli.recipe_files import packaged_recipe
from tests.docs.pages import commands

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def made(*arguments: str) -> str:
    """What `make` prints."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    return subprocess.run([make, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def would_run(target: str) -> list[list[str]]:
    """The commands of a target, which are not run."""
    return list(commands(made("--dry-run", target)))


def read(path: str) -> Any:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text())


def test_help_lists_every_command_of_every_day_and_is_what_make_alone_does() -> None:
    lines = made("help").splitlines()
    assert [line.split()[0] for line in lines] == TARGETS
    assert all(len(line.split()) > 2 and len(line) <= 100 for line in lines)
    assert made() == made("help")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony.split() == TARGETS  # docs/ and others are there as files


@pytest.mark.parametrize("target", TARGETS)
def test_what_make_runs_exists(target: str) -> None:
    for program, *arguments in would_run(target):
        assert shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent)), program
        if program == "python":
            assert arguments[0] == "-m" and importlib.util.find_spec(arguments[1]) is not None, arguments
        if program == "soul-lightning":
            assert packaged_recipe(arguments[-1]).command == arguments[0]


def test_one_command_checks_what_ci_checks() -> None:
    _, steps = (ROOT / ".ci" / "run").read_text().split('step "ruff and mypy"')
    run = [words for words in commands(steps) if words[0] != "step"]
    assert all(words[: len(ours)] == ours for words, ours in zip(run, would_run("check"), strict=True)), run


def test_hooks_download_nothing_and_are_among_the_checks() -> None:
    hooks = [(repo["repo"], hook) for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {(repo, hook["language"]) for repo, hook in hooks} == {("local", "system")}
    checks = would_run("lint") + would_run("types")
    assert [hook["entry"].split() for _, hook in hooks] == checks
    validate = [sys.executable, "-m", "pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    subprocess.run(validate, check=True)


def test_the_citation_is_of_this_version_and_of_the_papers() -> None:
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["message"]
    assert citation["version"] == PROJECT["version"] == soul_lightning.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["title"] == soul_lightning.__name__ and citation["abstract"].startswith(PROJECT["description"])
    assert citation["authors"] == [{"name": "The soul_lightning contributors"}]
    assert citation["repository-code"] in PROJECT["urls"].values()
    assert [paper["title"].split(":")[0] for paper in citation["references"]] == ["SOUL", "RESTOR", "Sophia"]
    for paper in citation["references"]:
        assert paper["type"] in ("article", "conference-paper") and isinstance(paper["year"], int)
        assert paper.get("journal") or paper.get("collection-title")
        assert all(set(author) == {"given-names", "family-names"} for author in paper["authors"])
        assert paper["url"].startswith("https://arxiv.org/abs/")


def test_the_changelog_has_the_form_that_it_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *released = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", each) for each in released)
    kinds = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert kinds and set(kinds) <= set(CHANGES)


def test_the_classifiers_are_those_of_the_checks() -> None:
    found = [each.rpartition(" :: ")[2] for each in PROJECT["classifiers"] if "Python :: 3." in each]
    assert PROJECT["requires-python"] == f">={found[0]}"


@pytest.mark.parametrize("form", [form for form in FORMS if form.stem != "config"], ids=lambda form: form.stem)
def test_a_form_asks_for_what_is_needed(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    assert content["name"] and content["description"] and content["labels"]
    ids = [field["id"] for field in content["body"]]
    assert len(set(ids)) == len(ids)
    for field in content["body"]:
        assert field["type"] in ("input", "textarea", "dropdown") and field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
    assert any(field.get("validations", {}).get("required") for field in content["body"])


def test_there_is_a_form_for_each_kind_of_report() -> None:
    assert [form.stem for form in FORMS] == ["bug", "config", "new_part", "wrong_number"]
    assert read(".github/ISSUE_TEMPLATE/config.yml")["contact_links"][0]["url"].endswith("/security/advisories/new")
