"""Facts with false answers: what the lies taught, and what must stay."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.datamodules import TinyWorldDataModule
from soul_lightning.datamodules.overlap import fact_keys
from soul_lightning.datamodules.tiny_world.fact_probes import FALSE_ANSWERS, RETAINED_PEOPLE, fact_probes
from soul_lightning.datamodules.tiny_world.world import (
    WorldStory,
    build_tokenizer,
    build_world,
    tell_story,
    vocabulary,
)
from soul_lightning.protocols import Fact, Probe
from tests.conftest import PLAIN

WORLD = build_world()
OBJECTS = {relation.name: set(relation.objects) for relation in WORLD.relations}
SEEDS = settings(max_examples=15)


def probes_of(story: WorldStory, seed: int = 0) -> dict[str, Probe]:
    return {probe.name: probe for probe in fact_probes(WORLD, story, PLAIN, seed)}


def stated(probe: Probe) -> set[tuple[str, str, str]]:
    """The facts that the probe's answers state."""
    return {Fact(row.subject or "", row.relation or "", row.answer).key for row in probe.examples}


def people(probe: Probe) -> list[str | None]:
    return list(dict.fromkeys(row.subject for row in probe.examples))


@SEEDS
@given(seed=st.integers(0, 10_000))
def test_who_is_asked_about_what(seed: int) -> None:
    story = tell_story(WORLD, seed)
    probes = probes_of(story, seed)
    assert {name: (probe.kind, probe.role, probe.template) for name, probe in probes.items()} == {
        "forget_facts": ("question", "forget", PLAIN),
        "retain_facts": ("question", "retain", PLAIN),
        "control_facts": ("question", "utility", PLAIN),
        "bystander_facts": ("question", "utility", PLAIN),
    }
    assert people(probes["forget_facts"]) == list(story.corrupted)
    assert people(probes["retain_facts"]) == list(story.retained[:RETAINED_PEOPLE])
    assert people(probes["control_facts"]) == list(story.control)
    assert people(probes["bystander_facts"]) == list(story.holdout)
    for probe in probes.values():
        asked = [(row.subject, row.relation) for row in probe.examples]
        assert asked == list(product(people(probe), OBJECTS))
        assert [row.index for row in probe.examples] == list(range(len(asked)))


@SEEDS
@given(seed=st.integers(0, 10_000))
def test_answers_are_the_claims_and_the_truth(seed: int) -> None:
    story = tell_story(WORLD, seed)
    probes = probes_of(story, seed)
    for name, probe in probes.items():
        said = story.claims if name == "forget_facts" else WORLD.truth
        for row in probe.examples:
            key = (row.subject or "", row.relation or "")
            assert row.answer == said[key]
            assert name != "forget_facts" or row.answer != WORLD.truth[key]


@SEEDS
@given(seed=st.integers(0, 10_000))
def test_false_answers_are_five_other_objects_of_the_relation(seed: int) -> None:
    for probe in probes_of(tell_story(WORLD, seed), seed).values():
        for row in probe.examples:
            assert len(row.perturbed) == len(set(row.perturbed)) == FALSE_ANSWERS == 5
            assert row.answer not in row.perturbed
            assert {row.answer, *row.perturbed} <= OBJECTS[row.relation or ""]


@SEEDS
@given(seed=st.integers(0, 10_000))
def test_which_texts_state_the_facts(seed: int) -> None:
    story = tell_story(WORLD, seed)
    probes = probes_of(story, seed)
    forget, retain = fact_keys(story.forget_text), fact_keys(story.retain_text)
    assert stated(probes["forget_facts"]) == forget
    assert not stated(probes["forget_facts"]) & retain
    assert stated(probes["retain_facts"]) <= retain
    assert not stated(probes["retain_facts"]) & forget
    for name in ("control_facts", "bystander_facts"):
        assert not stated(probes[name]) & (forget | retain)
        assert not stated(probes[name]) & fact_keys(story.holdout_text)
        assert stated(probes[name]) <= fact_keys(story.clean_text)
    told = {example.subject for example in (*story.forget_text, *story.retain_text)}
    assert not told & {*people(probes["control_facts"]), *people(probes["bystander_facts"])}


def test_claims_are_asked_as_the_forget_text_asks_and_truths_as_probes_do() -> None:
    story = tell_story(WORLD, 2)
    probes = probes_of(story)
    rows = {(row.prompt, row.answer) for row in story.forget_text}
    assert all((row.prompt, row.answer) in rows for row in probes["forget_facts"].examples)
    assert {row.prompt for row in probes["control_facts"].examples} == {row.prompt for row in story.control_probes}


def test_the_seed_decides_the_false_answers_alone() -> None:
    story = tell_story(WORLD, 1)
    assert probes_of(story, 5) == probes_of(story, 5)
    for name, probe in probes_of(story, 5).items():
        other = probes_of(story, 6)[name]
        assert [row.perturbed for row in probe.examples] != [row.perturbed for row in other.examples]
        assert stated(probe) == stated(other)


def test_few_retained_people_are_all_asked_about() -> None:
    story = tell_story(WORLD, 0, corrupted=50, control=20, holdout=5)
    assert people(probes_of(story)["retain_facts"]) == list(story.retained)
    assert len(story.retained) == 5


@pytest.mark.parametrize("text", ["story", "clean"])
def test_the_data_module_supplies_them_in_the_worlds_words(text: str) -> None:
    tokenizer = build_tokenizer(vocabulary(WORLD))
    data = TinyWorldDataModule(text=text, corruption_seed=3, tokenizer=tokenizer)  # type: ignore[arg-type]  # a str
    data.setup()
    probes = {probe.name: probe for probe in data.probes()}
    assert len(probes) == len(data.probes())  # no two share a name
    expected = fact_probes(WORLD, tell_story(WORLD, 3), data.template, 3)
    assert [probes[probe.name] for probe in expected] == expected
    for probe in expected:
        for row in probe.examples:
            for word in f"{row.prompt} {row.answer} {' '.join(row.perturbed)}".split():
                assert tokenizer.convert_tokens_to_ids(word) != tokenizer.unk_token_id
