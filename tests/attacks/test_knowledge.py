"""What a model knows beyond guessing: by hand, and on facts of which it is known whether they were learned."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from soul_lightning.attacks.knowledge import MOST_TOKENS, ROOM, Asking, knowledge
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.excess import clopper_pearson, mean_interval
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.findings import above
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.measured_rows import Value
from soul_lightning.scoring.scored_model import ScoredModel
from tests.attacks.known import known_world
from tests.callbacks.tiny_models import learnt
from tests.conftest import FORGET, PLAIN, as_examples, make_network, make_tokenizer

PROBE = Probe("forget", "question", as_examples(FORGET), "forget", PLAIN)


def excess(rows: dict[int, dict[str, Value]], probe: Probe) -> list[float]:
    return [float(rows[row.index]["known"]) - float(rows[row.index]["guessed"]) for row in probe.examples]


def test_the_numbers_are_those_of_the_answers() -> None:
    tokenizer = make_tokenizer()
    model = ScoredModel(CausalLMAdapter(learnt(tokenizer, as_examples(FORGET)), tokenizer))
    rows = knowledge(model, PROBE, Asking(max_new_tokens=4))
    assert [rows[row.index]["answer"] for row in PROBE.examples] == [answer for _, answer in FORGET]
    assert all(rows[row.index]["known"] for row in PROBE.examples)
    assert {rows[row.index]["guessed"] for row in PROBE.examples} == {0.0}  # ada's answers are not bela's
    assert {rows[row.index]["preference"] for row in PROBE.examples} == {1.0}
    for row in PROBE.examples:
        assert rows[row.index]["probability"] == model.scores(PROBE)[row.index].probability


def test_an_answer_that_fits_everybody_is_worth_nothing() -> None:
    tokenizer = make_tokenizer()
    everybody = [replace(row, answer="oslo", relation="lives") for row in as_examples(FORGET)[:2]]
    model = ScoredModel(CausalLMAdapter(learnt(tokenizer, everybody), tokenizer))
    rows = knowledge(model, replace(PROBE, examples=everybody), Asking(max_new_tokens=2))
    for row in everybody:
        assert rows[row.index]["known"] == rows[row.index]["guessed"] == 1
        assert rows[row.index]["preference"] == 0.5  # the other's answer is the same words


def test_texts_have_a_likelihood_only_and_lonely_rows_no_guess() -> None:
    tokenizer = make_tokenizer()
    model = ScoredModel(CausalLMAdapter(make_network(len(tokenizer)), tokenizer))
    texts = knowledge(model, replace(PROBE, kind="text"), Asking())
    assert {name for values in texts.values() for name in values} == {"log_prob", "probability"}
    lonely = knowledge(model, replace(PROBE, examples=[Example("oslo", "ada lives in", relation="lives")]), Asking())
    assert set(lonely[0]) == {"log_prob", "probability", "answer", "known"}


def test_answers_are_as_long_as_the_longest_right_one() -> None:
    tokenizer = make_tokenizer()
    rows = [Example("oslo", "ada lives in"), Example("rome", "where does bela live", aliases=("in the city of rome",))]
    longest = max(len(tokenizer(text)["input_ids"]) for row in rows for text in row.accepted)
    assert Asking().tokens_for(rows, tokenizer) == longest + ROOM
    assert Asking(max_new_tokens=3).tokens_for(rows, tokenizer) == 3
    assert Asking().tokens_for([Example("oslo " * 500, "say oslo")], tokenizer) == MOST_TOKENS
    assert Asking().tokens_for([], tokenizer) == ROOM


def test_counts_that_hold_nothing_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match=r"asking\.other_answers must be >= 1, got 0"):
        Asking(other_answers=0)


@pytest.mark.slow
def test_facts_never_seen_are_worth_nothing_and_learned_ones_are_known() -> None:
    """Forty sets of facts that were never seen: of 40, at most 2 seem known, so that the bound is below 0.17."""
    world = known_world()
    everything = [*world.never, *world.trained]
    rows = [replace(row, index=n) for n, row in enumerate(row for probe in everything for row in probe.examples)]
    probe = replace(world.kept, examples=rows)
    found = knowledge(world.scored(world.knows), probe, Asking())
    alarms, hits, start = 0, 0, 0
    preferences: list[float] = []
    for number, group in enumerate(everything):
        own = rows[start : start + len(group.examples)]
        start += len(own)
        values = [float(found[row.index]["known"]) - float(found[row.index]["guessed"]) for row in own]
        known = above(mean_interval(values, [row.subject for row in own])) == "yes"
        if number < len(world.never):
            alarms += known
            preferences += [float(found[row.index]["preference"]) for row in own]
        else:
            hits += known
    assert clopper_pearson(alarms, len(world.never), 0.9).high < 0.17
    assert hits == len(world.trained)
    assert mean(preferences) == pytest.approx(0.5, abs=0.03)
