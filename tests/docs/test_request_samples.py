"""What the page of requests shows is what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from soul_lightning.cli.request_config import parse_requests
from soul_lightning.cli.request_plan import plan_requests
from soul_lightning.cli.request_runs import check_requests
from soul_lightning.cli.stages import read_yaml
from soul_lightning.datamodules import RecordsDataModule
from tests.docs.samples import TASKS, blocks, encoded, word_tokenizer


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordsDataModule:
    """The page's recipe over the page's rows."""
    monkeypatch.chdir(tmp_path)
    (rows,) = blocks("requests.md", "csv")
    Path("forget.csv").write_text(rows + "\n")
    recipe, _ = blocks("requests.md", "yaml")
    settings: dict[str, Any] = yaml.safe_load(recipe)["data"]["init_args"]
    parts = (part for text in blocks("requests.md", "text") for part in text.replace("<eos>⟧", "").split("⟦"))
    return RecordsDataModule(**settings, tokenizer=word_tokenizer(*parts))


def test_the_rows_of_a_request(module: RecordsDataModule) -> None:
    rows = list(module.loaded.streams["forget"])
    assert module.tokenizer is not None
    assert encoded(rows, module.template, module.tokenizer) == blocks("requests.md", "text")


def test_the_probes_of_a_request(module: RecordsDataModule) -> None:
    page = (TASKS / "requests.md").read_text()
    for probe in module.probes():
        subjects = ", ".join(dict.fromkeys(str(row.subject) for row in probe.examples))
        assert f"| `{probe.name}` | {len(probe.examples)} | {subjects} |" in page
    assert len(module.probes()) == 6


def test_the_runs_of_the_sequence(module: RecordsDataModule) -> None:
    _, recipe = blocks("requests.md", "yaml")
    config = parse_requests(read_yaml(recipe, "requests.md"))
    check_requests(config, "requests")
    names = [f"`{stage.name}`" for stage in plan_requests(config).stages]
    assert f"came before them: {', '.join(names)}." in (TASKS / "requests.md").read_text()
