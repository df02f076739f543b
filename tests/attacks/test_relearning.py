"""Lessons, their order, curves worked out by hand, and a copy that learns without its model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.attacks import relearning
from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.knowledge import Asking, knowledge
from soul_lightning.attacks.relearning import (
    FineTuning,
    Lesson,
    area,
    gain,
    lesson_on_others,
    lesson_on_share,
    recovery,
    row_values,
    steps_to_half,
)
from soul_lightning.encoding import encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.forward import label_predictions
from soul_lightning.progress import listening
from soul_lightning.protocols import Batch, Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scored_model import ScoredModel
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples
from tests.test_progress import Heard

ASKED = Probe("asked", "question", as_examples(FORGET), "forget", PLAIN)
OTHERS = Probe("retain", "text", as_examples(RETAIN), "retain", PLAIN)
FAST = FineTuning(learning_rate=1e-2, batch_size=2, measure_at=(0, 1, 4))
ASKING = Asking(max_new_tokens=4)
CURVES = st.dictionaries(st.integers(1, 60), st.floats(0, 1), min_size=1, max_size=6).flatmap(
    lambda later: st.floats(0, 1).map(lambda first: {0: first, **later})
)


def scored(network: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> ScoredModel:
    return ScoredModel(CausalLMAdapter(network, tokenizer))


def subjects(probes: Any) -> set[str | None]:
    return {row.subject for probe in probes for row in probe.examples}


def people(count: int) -> list[Example]:
    return [Example("paris", f"p{n} lives in", n, subject=f"p{n}") for n in range(count)]


def test_areas_and_half_ways_by_hand() -> None:
    curve = {0: 0.2, 10: 0.6, 30: 0.4}
    assert gain(curve) == pytest.approx(0.2)
    # Gains 0, 0.4, 0.2: 10 · 0.2 + 20 · 0.3 = 8, over 30 steps.
    assert area(curve) == pytest.approx(8 / 30)
    assert steps_to_half(curve, 1.0) == 10  # 0.6 is half of the way from 0.2 to 1
    assert steps_to_half(curve, 0.6) == pytest.approx(5)
    assert steps_to_half(curve, 1.2) is None
    assert steps_to_half(curve, 0.2) is None  # nothing was lost
    assert steps_to_half({0: 0.5, 10: 0.1, 20: 0.9}, 0.7) == pytest.approx(16.25)


@given(CURVES)
def test_an_area_is_a_mean_of_gains(curve: dict[int, float]) -> None:
    gains = [value - curve[0] for value in curve.values()]
    assert min(gains) - 1e-9 <= area(curve) <= max(gains) + 1e-9
    assert area({step: value + 3 for step, value in curve.items()}) == pytest.approx(area(curve), abs=1e-9)
    assert area({7 * step: value for step, value in curve.items()}) == pytest.approx(area(curve), abs=1e-9)
    # A point on the straight line between two others changes nothing.
    first, second = sorted(curve)[:2]
    between = {2 * step: value for step, value in curve.items()} | {first + second: (curve[first] + curve[second]) / 2}
    assert area(between) == pytest.approx(area(curve), abs=1e-9)


@given(CURVES, st.floats(0, 1))
def test_half_recovery_is_the_first_step_on_the_line_that_reaches_it(curve: dict[int, float], full: float) -> None:
    assume(full > curve[0] + 1e-6)
    steps, half = sorted(curve), (curve[0] + full) / 2
    found = steps_to_half(curve, full)
    if found is None:
        assert max(curve.values()) < half
        return
    before = [step for step in steps if step < found - 1e-9]
    assert all(curve[step] < half for step in before)
    left, right = before[-1], next(step for step in steps if step >= found - 1e-9)
    on_line = curve[left] + (curve[right] - curve[left]) * (found - left) / (right - left)
    assert on_line == pytest.approx(half, abs=1e-6)


@given(st.integers(2, 30), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_share_of_the_subjects_is_taught_and_all_others_are_asked(count: int, share: float, seed: int) -> None:
    probes = [Probe("a", "question", people(count), "forget"), Probe("b", "question", people(count)[:2], "forget")]
    lesson = lesson_on_share(probes, share, seed)
    assert lesson is not None
    taught, asked = subjects(lesson.taught), subjects(lesson.asked)
    assert taught | asked == subjects(probes)
    assert not taught & asked
    assert 1 <= len(taught) <= count - 1
    assert abs(len(taught) - share * count) <= 1
    assert lesson == lesson_on_share(probes, share, seed)


def test_the_seed_draws_the_subjects() -> None:
    probe = Probe("a", "question", people(20), "forget")
    drawn = {tuple(row.index for row in _taught(lesson_on_share([probe], 0.2, seed))) for seed in range(5)}
    assert len(drawn) > 1


def _taught(lesson: Lesson | None) -> list[Example]:
    assert lesson is not None
    return [row for probe in lesson.taught for row in probe.examples]


@pytest.mark.parametrize("subject", [None, "", "harry"])
def test_rows_of_no_subject_or_of_a_single_one_are_drawn_themselves(subject: str | None) -> None:
    rows = [Example(f"text {n}", index=n, subject=subject) for n in range(10)]
    lesson = lesson_on_share([Probe("a", "text", rows, "forget")], 0.3, 0)
    assert lesson is not None
    assert [len(probe.examples) for probe in (*lesson.taught, *lesson.asked)] == [3, 7]
    assert lesson_on_share([Probe("a", "text", rows[:1], "forget")], 0.3, 0) is None


def test_texts_that_state_what_is_forgotten_are_not_taught() -> None:
    texts = [
        Example("Ada Lovelace, they say, lives in Paris.", index=0),
        Example("paris", "where does ada live", 1),
        Example("paris", "where does egon live", 2),
        Example("oslo", "the town", 3, subject="ada"),
        Example("Paris", "the town", 4, subject="ada"),
        Example("", "ada lives in", 5),
    ]
    lesson = lesson_on_others([Probe("a", "text", texts, "retain")], [ASKED])
    assert [row.index for row in _taught(lesson)] == [2, 3]
    assert lesson is not None
    assert lesson.asked == [ASKED]
    assert lesson_on_others([Probe("a", "text", texts[:2], "retain")], [ASKED]) is None
    whole = Probe("b", "text", [Example("a long text")], "forget")
    kept = lesson_on_others([Probe("a", "text", [Example("a long text"), Example("long text")], "retain")], [whole])
    assert [row.answer for row in _taught(kept)] == ["long text"]


def test_no_row_that_is_asked_is_ever_trained_on(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson = lesson_on_share([ASKED], 0.5, 0)
    assert lesson is not None
    trained: list[list[int]] = []
    forward = label_predictions

    def spied(network: torch.nn.Module, batch: Batch) -> Any:
        trained.extend(
            row[mask.bool()].tolist() for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
        )
        return forward(network, batch)

    monkeypatch.setattr(relearning, "label_predictions", spied)
    found = recovery(scored(tiny_network, tokenizer), lesson, ASKING, FAST, 0, "test")
    assert {index for _, index in found} == {row.index for row in lesson.asked[0].examples}
    wanted = [row.input_ids.tolist() for row in encode(_taught(lesson), tokenizer, PLAIN)]
    assert len(trained) == 4 * FAST.batch_size  # steps times rows
    assert {tuple(row) for row in trained} == {tuple(row) for row in wanted}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_learns_and_the_model_stays(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype
) -> None:
    """Under inference mode and autocast too, with weights that do not train, and whatever the random generators say."""
    network = cast(torch.nn.Module, tiny_network).to(dtype).requires_grad_(False)
    before = fingerprint(network)
    lesson = Lesson([ASKED], [ASKED])
    training = replace(FAST, measure_at=[0, 40])
    model = scored(network, tokenizer)
    first = recovery(model, lesson, ASKING, training, 0, "test")
    state = torch.random.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(5)
        network.train()
        second = recovery(model, lesson, ASKING, training, 0, "test")
    torch.random.set_rng_state(state)
    assert first == second
    assert first != recovery(model, lesson, ASKING, training, 1, "test")
    assert fingerprint(network) == before
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    assert not any(steps[0]["known"] for steps in first.values())
    assert all(float(steps[40]["probability"]) > float(steps[0]["probability"]) + 0.2 for steps in first.values())
    assert any(steps[40]["known"] for steps in first.values())


def test_step_zero_is_the_model_itself(tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model = scored(tiny_network, tokenizer)
    heard = Heard()
    with listening(heard):
        found = recovery(model, Lesson([OTHERS], [ASKED]), ASKING, FAST, 0, "test")
    assert ("relearning", 4, "steps") in heard.works
    known = knowledge(model, ASKED, ASKING)
    assert {index: steps[0] for (_, index), steps in found.items()} == known
    assert all(list(steps) == [0, 1, 4] for steps in found.values())


def test_rounded_weights_and_cut_answers_are_refused(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    cut = ScoredModel(CausalLMAdapter(tiny_network, tokenizer), max_tokens=3)
    with pytest.raises(MisconfigurationError, match="max_tokens=3 cuts away every answer that a copy would be taught"):
        recovery(cut, Lesson([OTHERS], [ASKED]), ASKING, FAST, 0, "test")
    tiny_network.lm_head.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(MisconfigurationError, match=r"test trains every weight of a copy, and some .* rounded"):
        recovery(scored(tiny_network, tokenizer), Lesson([OTHERS], [ASKED]), ASKING, FAST, 0, "test")


@given(st.integers(1, 20), st.integers(1, 25), st.integers(1, 30))
def test_every_row_has_its_turn(rows: int, batch_size: int, steps: int) -> None:
    order = list(relearning._order(rows, FineTuning(batch_size=batch_size, measure_at=(0, steps)), 3))
    assert len(order) == steps + 1
    assert all(len(places) == min(batch_size, rows) for places in order)
    turns = [place for places in order for place in places]
    counts = [turns.count(place) for place in range(rows)]
    assert max(counts) - min(counts) <= 1


def test_a_rows_curves_are_flat() -> None:
    steps: dict[int, dict[str, float | str | bool]] = {
        0: {"known": False, "guessed": 0.5, "probability": 0.1, "answer": "oslo"},
        4: {"known": True, "guessed": 0.0, "answer": "paris"},
    }
    assert row_values("forget", steps) == {
        "forget_known_0": 0.0, "forget_known_4": 1.0, "forget_known_gain": 1.0, "forget_known_area": 0.5,
        "forget_guessed_0": 0.5, "forget_guessed_4": 0.0, "forget_guessed_gain": -0.5, "forget_guessed_area": -0.25,
        "forget_probability_0": 0.1, "forget_answer": "paris",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "training.learning_rate must be above 0"),
        ({"batch_size": 0}, "training.batch_size >= 1"),
        ({"measure_at": [0]}, "training.measure_at must ascend from 0"),
        ({"measure_at": [1, 5]}, "training.measure_at must ascend from 0"),
        ({"measure_at": [0, 5, 5]}, "training.measure_at must ascend from 0"),
        ({"measure_at": [0, 9, 5]}, "training.measure_at must ascend from 0"),
    ],
)
def test_training_of_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        FineTuning(**settings)
