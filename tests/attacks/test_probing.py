"""Linear probes: their arithmetic, chance, and facts that are known to be there or not."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from transformers import PreTrainedTokenizerFast

from soul_lightning.attacks.probing import (
    STRENGTHS,
    States,
    answer_words,
    comparable,
    prompt_states,
    read,
    read_answers,
)
from soul_lightning.metrics.excess import clopper_pearson
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.templates import PromptTemplate
from tests.attacks.known import OBJECTS, KnownWorld, known_world
from tests.conftest import make_network


def questions(people: int, seed: int, relations: int = 2, objects: int = 4) -> list[Example]:
    rng = Random(seed)
    return [
        Example(f"r{relation}o{rng.randrange(objects)}", "", subject=f"p{person}", relation=f"r{relation}")
        for person in range(people)
        for relation in range(relations)
    ]


def test_answers_are_bags_of_learned_words() -> None:
    bags = answer_words(["The red cat", "a red dog"], ["Red!", "red DOG dog", "blue"])
    half = 0.5**0.5  # words in order: cat, dog, red
    np.testing.assert_allclose(bags, [[0, 0, 1], [0, half, half], [0, 0, 0]])


def test_ridge_is_that_of_numpy_at_the_strength_that_leaving_one_out_finds_best() -> None:
    rng = np.random.default_rng(0)
    states, asked = rng.normal(size=(12, 5)) * [1, 10, 0.1, 3, 1] + 7, rng.normal(size=(3, 5)) + 7
    words = states[:, :2] @ [[0.5, 1.0], [0.2, 0.0]] + rng.normal(size=(12, 2))
    features = (states - states.mean(0)) / states.std(0)
    errors = []
    for strength in STRENGTHS * features.size:
        left = [np.arange(12) != row for row in range(12)]
        errors.append(
            np.mean([
                (Ridge(strength).fit(features[kept], words[kept]).predict(features[~kept]) - words[~kept]) ** 2
                for kept in left
            ])
        )  # fmt: skip
    best = float(STRENGTHS[int(np.argmin(errors))]) * features.size
    centred = words - words.mean(0)
    weights = np.linalg.solve(features.T @ features + best * np.eye(5), features.T @ centred)
    expected = (asked - states.mean(0)) / states.std(0) @ weights + words.mean(0)
    np.testing.assert_allclose(read(states, words, asked), expected, atol=1e-9)


def test_features_that_never_vary_say_nothing() -> None:
    words = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    said = read(np.full((3, 4), 1e3) + np.array([[1e-5], [0], [0]]), words, np.zeros((2, 4)))
    np.testing.assert_allclose(said, [[2 / 3, 1 / 3]] * 2)


def test_a_row_is_comparable_where_its_answer_and_anothers_are_in_learned_words() -> None:
    rows = [
        Example("paris", subject="a", relation="home"),
        Example("oslo", subject="b", relation="home"),
        Example("rome", subject="c", relation="home"),
        Example("judge", subject="a", relation="job"),
        Example("judge", subject="a", relation="job"),
    ]
    assert comparable(["oslo", "new paris", "judge"], rows).tolist() == [True, True, False, False, False]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_features_of_chance_read_what_chance_reads(seed: int) -> None:
    """The mean over 40 sets of 12 rows lies within five standard errors of one half."""
    rng = np.random.default_rng(seed)
    kept = questions(15, seed)
    learned = rng.normal(size=(len(kept), 1, 6)).astype(np.float32)
    means = []
    for number in range(40):
        rows = questions(6, seed + 1 + number)
        asked = rng.normal(size=(len(rows), 1, 6)).astype(np.float32)
        found = read_answers(learned, [row.answer for row in kept], asked, rows, draws=39)
        means.append(np.nanmean(found.preferences))
    assert abs(np.mean(means) - 0.5) < 5 * np.std(means) / 40**0.5


def test_what_is_written_into_the_features_is_read_and_the_same_seed_reads_the_same() -> None:
    rng = np.random.default_rng(0)
    kept, rows = questions(20, 0), questions(8, 1)
    words = sorted({row.answer for row in kept})

    def states(those: list[Example]) -> States:
        noise = rng.normal(size=(len(those), 2, len(words)))
        noise[:, 1] += 6 * np.array([[float(row.answer == word) for word in words] for row in those])
        return noise.astype(np.float32)

    features = states(kept), [row.answer for row in kept], states(rows), rows
    found, again = read_answers(*features, seed=3), read_answers(*features, seed=3)
    means = np.nanmean(found.preferences, axis=0)
    assert means[1] > found.chance > means[0]
    np.testing.assert_array_equal(found.preferences, again.preferences)
    assert found.chance == again.chance


def test_states_are_those_of_the_last_token_of_each_prompt_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    network = make_network(len(tokenizer))
    rows = [
        Example("oslo", "ada lives in", 0),
        Example("baker", "bela", 1),
        Example("cello", "cora works as a judge and plays the", 2),
    ]
    probe = Probe("asked", "question", rows, "forget", PromptTemplate(prompt="{prompt}", answer=" {answer}"))
    model = ScoredModel(CausalLMAdapter(network, tokenizer), token_budget=16)
    found = prompt_states(model, probe)
    assert found.dtype == np.float32 and found.shape[:2] == (3, network.config.num_hidden_layers + 1)
    for row, states in zip(rows, found, strict=True):
        ids = torch.tensor([tokenizer(row.prompt)["input_ids"]])
        with torch.no_grad():
            alone = network.eval()(input_ids=ids, output_hidden_states=True).hidden_states
        blocks = torch.stack([layer[0, -1] for layer in alone[:-1]]).numpy()  # the last ones stand behind the norm
        np.testing.assert_allclose(states[:-1], blocks, atol=1e-5)
        np.testing.assert_allclose(network.model.norm(torch.tensor(states[-1])).detach(), alone[-1][0, -1], atol=1e-5)
    half = prompt_states(ScoredModel(CausalLMAdapter(network.bfloat16(), tokenizer)), probe)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, found, atol=0.05)


@pytest.fixture(scope="module")
def world() -> KnownWorld:
    return known_world()


def reads(learned: States, kept: Probe, asked: States, rows: Sequence[Example]) -> tuple[bool, int]:
    found = read_answers(learned, [row.answer for row in kept.examples], asked, rows)
    means = np.nanmean(found.preferences, axis=0)
    return bool(means.max() > found.chance), int(means.argmax())


@pytest.mark.slow
def test_facts_that_were_learned_are_read(world: KnownWorld) -> None:
    model = world.scored(world.knows)
    learned = prompt_states(model, world.kept)
    found = [reads(learned, world.kept, prompt_states(model, group), group.examples)[0] for group in world.trained]
    assert clopper_pearson(sum(found), len(found)).low > 0.8 and sum(found) / len(found) >= 0.9


@pytest.mark.slow
def test_facts_that_were_never_seen_are_not(world: KnownWorld) -> None:
    """Of 40 groups of people and 160 sets of other facts about them at most a share of 2.5 % may be called read."""
    model = world.scored(world.knows)
    learned = prompt_states(model, world.kept)
    alarms, again = [], []
    for number, group in enumerate(world.never):
        states = prompt_states(model, group)
        alarms.append(reads(learned, world.kept, states, group.examples)[0])
        for draw in range(4):  # of people of whom nothing is known any fact is as good as another
            rng = Random(f"{number}/{draw}")
            rows = [Example(f"{r.relation}{rng.randrange(OBJECTS)}", r.prompt, r.index, subject=r.subject,
                            relation=r.relation) for r in group.examples]  # fmt: skip
            again.append(reads(learned, world.kept, states, rows)[0])
    assert clopper_pearson(sum(alarms), len(alarms)).low <= 0.025 and clopper_pearson(sum(alarms), 40).high < 0.15
    assert clopper_pearson(sum(again), len(again)).low <= 0.025 and clopper_pearson(sum(again), 160).high < 0.08


@pytest.mark.slow
def test_facts_that_the_last_block_hides_are_read_before_it(world: KnownWorld) -> None:
    model = world.scored(world.suppressed)
    learned = prompt_states(model, world.kept)
    for group in world.trained[:4]:
        answers = model.answers(group, 2)
        right = [answer == row.answer for answer, row in zip(answers, group.examples, strict=True)]
        assert np.mean(right) < 0.1
        is_read, layer = reads(learned, world.kept, prompt_states(model, group), group.examples)
        assert is_read and layer == 3
