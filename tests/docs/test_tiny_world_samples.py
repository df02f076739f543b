"""The rows, probes and numbers that the page of the embedded world shows are those that come out."""

from __future__ import annotations

from typing import Any

import pytest

from soul_lightning.datamodules import TinyWorldDataModule
from soul_lightning.networks.loading import load_tokenizer
from tests.docs.samples import TASKS, blocks, encoded

PAGE = (TASKS / "tiny_world.md").read_text()
TOKENIZER = load_tokenizer("packaged:tiny_world/corrupted")


@pytest.fixture(scope="module")
def module() -> TinyWorldDataModule:
    return TinyWorldDataModule(tokenizer=TOKENIZER)


@pytest.mark.parametrize("stream", ["forget", "retain"])
def test_rows(module: TinyWorldDataModule, stream: str) -> None:
    shown = blocks("tiny_world.md", "text")[stream == "retain"].splitlines()
    assert shown and set(shown) <= set(encoded(list(module.loaded.streams[stream]), module.template, TOKENIZER))


@pytest.mark.parametrize(("place", "settings"), [(2, {"unrelated_facts": 1}), (3, {"corruption": "names"})])
def test_rows_of_other_corruptions(place: int, settings: dict[str, Any]) -> None:
    other = TinyWorldDataModule(tokenizer=TOKENIZER, **settings)
    shown = blocks("tiny_world.md", "text")[place].splitlines()
    assert shown == encoded(list(other.loaded.streams["forget"])[: len(shown)], other.template, TOKENIZER)


def test_probes(module: TinyWorldDataModule) -> None:
    for probe in module.probes():
        people = len({row.subject for row in probe.examples})
        assert f"| `{probe.name}` | {probe.kind} | {probe.role} | {len(probe.examples)} | {people} |" in PAGE
    assert PAGE.count("| question |") + PAGE.count("| text |") == len(module.probes())


def test_numbers(module: TinyWorldDataModule) -> None:
    story = module.story
    parts = {name: getattr(story, name) for name in ("corrupted", "control", "holdout", "retained")}
    assert all(f"| {name} | {len(people)} |" in PAGE for name, people in parts.items())
    assert f"{len(module.world.people)} people who never existed" in PAGE
    assert f"the vocabulary has {len(TOKENIZER)} of them" in PAGE
