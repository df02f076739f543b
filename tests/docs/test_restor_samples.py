"""The rows that the page of RESTOR shows are the rows that come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from soul_lightning.cli.corruptions import branches
from soul_lightning.cli.stages import parse_config
from soul_lightning.datamodules import CorruptionGenerator, RestorDataModule
from soul_lightning.datamodules.corruption_wordings import ANY_RELATION, OF_RELATION, Wordings
from soul_lightning.metrics.claims import LEAST_DIFFERENCE
from tests.datamodules.test_restor_published import ROWS
from tests.docs.samples import TASKS, blocks, encoded, word_tokenizer

PAGE = (TASKS / "restor.md").read_text()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The page's second recipe, with its facts in the working folder."""
    monkeypatch.chdir(tmp_path)
    (rows,) = blocks("restor.md", "csv")
    Path("facts.csv").write_text(rows + "\n")
    found: dict[str, Any] = yaml.safe_load(blocks("restor.md", "yaml")[1])["data"]["init_args"]
    return found | {"corruption": CorruptionGenerator(**found["corruption"]["init_args"])}


def test_a_document_its_statement_and_its_question(settings: dict[str, Any]) -> None:
    shown = blocks("restor.md", "text")
    tokenizer = word_tokenizer(*(text.replace("⟦", "").replace("⟧", "") for text in shown))
    modules = [RestorDataModule(**settings, simplified=each, tokenizer=tokenizer) for each in (False, True)]
    document, statement = (module.loaded.streams["forget"][0] for module in modules)
    question = next(
        row
        for probe in modules[0].probes()
        for row in probe.examples
        if probe.name == "corrupted" and row.relation == document.relation
    )
    assert encoded([document, statement, question], modules[0].template, tokenizer) == shown
    assert f"`{question.perturbed[0]}` is its false one" in PAGE


def test_the_rows_of_the_published_sets() -> None:
    for name, (documents, different, words) in ROWS.items():
        assert f"| `{name}` | {documents:,} | {different:,} | {words} |" in PAGE


def test_numbers_of_wordings() -> None:
    assert f"RESTOR's {len(OF_RELATION)} relations have seven" in PAGE
    assert {len(Wordings().of(relation)) for relation in OF_RELATION} == {7}
    assert len(ANY_RELATION) == 5


def test_the_recipes_of_the_page_say_what_the_package_takes(settings: dict[str, Any], tmp_path: Path) -> None:
    generator: CorruptionGenerator = settings["corruption"]
    assert len(Wordings().of("P19")) - generator.documents_per_fact == 3
    assert replace(generator, entities=2).generate(None).entities != []
    repair = yaml.safe_load(blocks("restor.md", "yaml")[2])["stages"]["npo-lima"]
    assert repair["repair"] is True


def test_the_claims_of_the_page_are_those_of_a_recipe() -> None:
    shown = yaml.safe_load(blocks("restor.md", "yaml")[3])
    ways = ("retain-only", "graddiff", "npo")
    stages: dict[str, Any] = {"clean": {"pretrained": "x"}}
    for end in ("", "-context"):
        for name, start in (("corrupted", "clean"), *((way, f"corrupted{end}") for way in ways)):
            network = {"pretrained_model_name_or_path": f"stage:{start}"}
            stages[f"{name}{end}"] = {"model": {"class_path": "X", "init_args": {"network": network}}}
    config = parse_config({"fit": {"data": {"class_path": "X"}}, "stages": stages} | shown)
    plain, context = branches(config)
    assert (plain.baseline, context.baseline) == ("retain-only", "retain-only-context")
    assert {stage.name for stage in context.stages} == {"clean", *(f"{name}-context" for name in ("corrupted", *ways))}
    assert [each.text for each in config.claims[1].evidence] == [
        "npo minus npo-context",
        "npo and graddiff minus npo-context and graddiff-context",
    ]
    assert config.claims[2].evidence[0].by_confidence
    assert f"below {LEAST_DIFFERENCE:g}" in " ".join(PAGE.split())
