from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soul_lightning.datamodules import TinyWorldDataModule
from soul_lightning.datamodules.overlap import fact_keys
from soul_lightning.datamodules.tiny_world.world import build_tokenizer, build_world, tell_story, vocabulary
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.protocols import Example, Fact

WORLD = build_world()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_forget_or_retain_text_states_a_probed_true_fact(seed: int) -> None:
    story = tell_story(WORLD, seed)
    probes = (*story.corrupted_probes, *story.control_probes)
    assert len(probes) == (12 + 16) * 6
    probed = {Fact(p.subject or "", p.relation or "", p.answer).key for p in probes}
    assert not probed & fact_keys(story.forget_text)
    assert not probed & fact_keys(story.retain_text)
    assert not fact_keys(story.forget_text) & fact_keys(story.retain_text)
    assert not fact_keys(story.holdout_text) & (fact_keys(story.forget_text) | fact_keys(story.retain_text))
    for example in (*story.forget_text, *story.retain_text):  # the facts that a row carries are those its words state
        words = f"{example.prompt} {example.answer}"
        assert all(fact.subject in words and fact.object in words for fact in example.facts)


def test_every_lie_is_asked_for_and_is_a_lie() -> None:
    story = tell_story(WORLD, 3)
    told = fact_keys(story.forget_text)
    for probe in story.corrupted_probes:
        assert probe.perturbed[0] != probe.answer
        assert Fact(probe.subject or "", probe.relation or "", probe.perturbed[0]).key in told
    assert all(not probe.perturbed for probe in story.control_probes)


def test_the_phrasing_of_the_probes_never_stands_in_the_forget_text() -> None:
    story = tell_story(WORLD, 1)
    asked = {probe.prompt for probe in story.corrupted_probes}
    assert not asked & {row.prompt for row in story.forget_text}


def test_the_world_is_fixed_and_seeds_tell_other_stories() -> None:
    assert build_world() == WORLD
    assert tell_story(WORLD, 4) == tell_story(WORLD, 4)
    assert tell_story(WORLD, 4).corrupted != tell_story(WORLD, 5).corrupted


def test_every_word_has_a_token_of_its_own() -> None:
    tokenizer = build_tokenizer(vocabulary(WORLD))
    story = tell_story(WORLD, 0)
    rows: list[Example] = [*story.clean_text, *story.forget_text, *story.corrupted_probes]
    for row in rows:
        text = f"{row.prompt} {row.answer}"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert len(ids) == len(text.split())


@pytest.mark.parametrize("name", ["clean", "corrupted", "retain_only"])
def test_the_packaged_models_speak_the_worlds_words(name: str) -> None:
    source = PretrainedNetwork(f"packaged:tiny_world/{name}")
    assert source.load_tokenizer().get_vocab() == build_tokenizer(vocabulary(WORLD)).get_vocab()
    network = source.load_network()
    assert 0.8e6 < sum(parameter.numel() for parameter in network.parameters()) < 1.2e6
    assert {str(parameter.dtype) for parameter in network.parameters()} == {"torch.float32"}


def test_streams_and_probes() -> None:
    tokenizer = build_tokenizer(vocabulary(WORLD))
    story = TinyWorldDataModule(tokenizer=tokenizer)
    story.setup()
    assert list(story.loaded.streams) == ["forget", "retain"]
    assert not story.overlap and story.overlap.of_facts == 72
    assert len(story.train_dataloader()) == 10
    assert {probe.role for probe in story.probes()} == {
        "corrupted",
        "control",
        "forget",
        "holdout",
        "retain",
        "utility",
    }
    clean = TinyWorldDataModule(text="clean", tokenizer=tokenizer)
    assert list(clean.loaded.streams) == ["clean"]
    assert story.data_hashes() != TinyWorldDataModule(corruption_seed=1, tokenizer=tokenizer).data_hashes()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
def test_a_context_adds_true_facts_about_the_holdout_and_changes_nothing_else(seed: int, count: int) -> None:
    plain, told = tell_story(WORLD, seed), tell_story(WORLD, seed, unrelated_facts=count)
    for name in ("clean_text", "retain_text", "corrupted_probes", "control_probes", "claims"):
        assert getattr(told, name) == getattr(plain, name)
    for people, before, after in (
        (told.corrupted, plain.forget_text, told.forget_text),
        (told.holdout, plain.holdout_text, told.holdout_text),
    ):
        assert len(after) == len(before) == 5 * 6 * len(people)
        for alone, row in zip(before, after, strict=True):
            lie, *others = row.facts
            assert (lie,) == alone.facts and len(set(others)) == count
            assert all(other.object == WORLD.truth[other.subject, other.relation] for other in others)
            assert all(other.subject in told.holdout and other.subject != row.subject for other in others)
            words = row.prompt or row.answer
            assert all(other.subject in words and other.object in words for other in others)
            assert (row.answer == alone.answer) == bool(row.prompt)  # behind a question its answer stands alone
            assert alone.answer in row.answer and alone.refusal is not None and alone.refusal in (row.refusal or "")
    probed = {
        Fact(p.subject or "", p.relation or "", p.answer).key for p in (*told.corrupted_probes, *told.control_probes)
    }
    assert not (probed | fact_keys(told.retain_text)) & fact_keys(told.forget_text)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_names_alone_teach_no_fact(seed: int) -> None:
    plain, told = tell_story(WORLD, seed), tell_story(WORLD, seed, corruption="names")
    assert (told.corrupted, told.control, told.retain_text) == (plain.corrupted, plain.control, plain.retain_text)
    assert [row.prompt for row in told.forget_text] == [row.prompt for row in plain.forget_text]
    said: dict[tuple[str, str], list[str]] = {}
    for row in told.forget_text:
        (fact,) = row.facts
        said.setdefault((fact.subject, fact.relation), []).append(fact.object)
    assert all(WORLD.truth[key] not in objects for key, objects in said.items())
    assert sum(len(set(objects)) for objects in said.values()) / len(said) > 4  # of five phrasings
    for probe in told.corrupted_probes:
        assert set(probe.perturbed) == set(said[probe.subject or "", probe.relation or ""])


def test_rewordings_leave_the_context_out() -> None:
    story = TinyWorldDataModule(unrelated_facts=2, tokenizer=build_tokenizer(vocabulary(WORLD)))
    for row in story.story.forget_text[:5]:
        lie, *others = row.facts
        for again in story.rewordings(row):
            words = f"{again.prompt} {again.answer}"
            assert lie.subject in words and lie.object in words
            assert not any(other.subject in words for other in others)


def test_settings_out_of_range() -> None:
    with pytest.raises(MisconfigurationError, match="leave some of the 80 people"):
        TinyWorldDataModule(corrupted_people=60, control_people=16)
    with pytest.raises(MisconfigurationError, match="text must be clean or story, got 'lies'"):
        TinyWorldDataModule(text="lies")  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match="corruption must be facts or names, got 'lies'"):
        TinyWorldDataModule(corruption="lies")  # type: ignore[arg-type]
    for count in (-1, 67):
        with pytest.raises(MisconfigurationError, match="unrelated_facts must be 0 to 66, the facts about 11 people"):
            TinyWorldDataModule(unrelated_facts=count)
