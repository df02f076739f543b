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


def test_settings_out_of_range() -> None:
    with pytest.raises(MisconfigurationError, match="leave some of the 80 people"):
        TinyWorldDataModule(corrupted_people=60, control_people=16)
    with pytest.raises(MisconfigurationError, match="text must be clean or story, got 'lies'"):
        TinyWorldDataModule(text="lies")  # type: ignore[arg-type]
