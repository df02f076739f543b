"""What rewritten questions are compared with, by hand, on a model whose answers are written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from soul_lightning.attacks.knowledge import Asking
from soul_lightning.attacks.prompting import Attempt, Prompting, any_of, tells
from soul_lightning.attacks.rewrites import Material, RewriteName
from soul_lightning.metrics.judge import Judge
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.sampling import Sampling
from soul_lightning.scoring.scored_model import ScoredModel
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples, make_tokenizer
from tests.scoring.test_generation import varied_network

HOMES = [
    Example(town, f"where does {who} live", index, subject=who, relation="home")
    for index, (who, town) in enumerate(
        (("ada", "paris"), ("bela", "rome"), ("cora", "san marino"), ("dina", "san remo"), ("egon", "oslo"))
    )
]
PROBE = Probe("forget", "question", HOMES, "forget", PLAIN)
ADA, BELA, CORA, DINA, EGON = range(5)


class Says:
    """Answers every text by a rule, as a `ScoredModel` would."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        self.rule = rule
        self.asked: list[str] = []

    def answers(
        self, probe: Probe, max_new_tokens: int, batch_size: int, *, sampling: Sampling | None = None
    ) -> list[str]:
        texts = [probe.template.render_prompt(row, make_tokenizer()) for row in probe.examples]
        self.asked += texts
        return [self.rule(f"{text} #{sampling.draw}" if sampling else text) for text in texts]


def had(rule: Callable[[str], str], *rewrites: RewriteName, samples: int = 3) -> list[dict[RewriteName, Attempt]]:
    prompting = Prompting(Asking(), samples, 1.0, 1.0)
    return prompting.attempts(cast(ScoredModel, Says(rule)), PROBE, rewrites, Material(PLAIN, make_tokenizer()))


def test_one_answer_for_all_is_a_guess() -> None:
    found = [each["plain"] for each in had(lambda text: "paris\nand more", "plain")]
    assert [each.success for each in found] == [True, False, False, False, False]
    assert [each.guessed for each in found] == [0.0, 0.25, 0.25, 0.25, 0.25]
    assert found[BELA].answers == ("paris",)
    assert sum(each.success - (each.guessed or 0.0) for each in found) == 0


def test_any_wording_will_do_for_the_row_and_for_the_others() -> None:
    found = had(lambda text: "rome" if text.startswith("Complete") else "oslo", "paraphrase")
    assert [each["paraphrase"].success for each in found] == [False, True, False, False, True]
    assert found[ADA]["paraphrase"].answers == ("oslo", "oslo", "rome")
    assert found[ADA]["paraphrase"].fits == {BELA: True, CORA: False, DINA: False, EGON: True}
    assert [each["paraphrase"].guessed for each in found] == [0.5, 0.25, 0.5, 0.5, 0.25]


def test_a_beginning_is_compared_with_other_beginnings_before_the_same_question() -> None:
    """To a model that goes on with «marino» behind every «san», the beginning of the answer says nothing of Cora."""
    model = Says(lambda text: "marino" if text.endswith("san") else "nothing")
    prompting = Prompting(Asking(), 1, 1.0, 1.0)
    found = prompting.attempts(cast(ScoredModel, model), PROBE, ["answer_prefix"], Material(PLAIN, make_tokenizer()))
    assert ["answer_prefix" in each for each in found] == [False, False, True, True, False]
    cora, dina = found[CORA]["answer_prefix"], found[DINA]["answer_prefix"]
    assert (cora.success, cora.fits) == (True, {DINA: False})
    assert (dina.success, dina.fits) == (False, {CORA: True})
    assert cora.answers == ("marino",)
    assert sorted(model.asked) == ["where does cora live san"] * 2 + ["where does dina live san"] * 2


def test_any_rewrite_is_compared_with_rows_that_are_asked_in_as_many_ways() -> None:
    rule = {"where does cora live san": "marino", "where does dina live san": "marino"}
    found = any_of(had(lambda text: rule.get(text, "rome"), "plain", "answer_prefix"))
    assert [each.success for each in found if each] == [False, True, True, False, False]
    assert [dict(each.fits) for each in found if each] == [
        {BELA: True, EGON: False}, {ADA: False, EGON: False}, {DINA: False}, {CORA: True}, {ADA: False, BELA: True},
    ]  # fmt: skip
    assert any_of([{}]) == [None]


def test_every_draw_is_asked_and_counts_once() -> None:
    found = had(lambda text: {"0": "rome", "1": "oslo", "2": "paris"}[text[-1]], "sampling", samples=3)
    assert found[ADA]["sampling"].answers == ("rome", "oslo", "paris")
    assert [each["sampling"].success for each in found] == [True, True, False, False, True]
    assert [len(each["sampling"].answers) for each in had(lambda text: "rome", "sampling", samples=2)] == [2] * 5


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_more_draws_have_no_row_less(tokenizer: PreTrainedTokenizerFast, temperature: float) -> None:
    rows = [replace(row, index=index) for index, row in enumerate(as_examples(FORGET + RETAIN))]
    model = ScoredModel(CausalLMAdapter(varied_network(tokenizer), tokenizer))
    probe = Probe("forget", "question", rows, "forget", PLAIN)
    found: list[Sequence[Attempt]] = []
    for samples in (1, 4, 16):
        prompting = Prompting(Asking(max_new_tokens=2), samples, temperature, 1.0)
        attempts = prompting.attempts(model, probe, ["sampling"], Material(PLAIN, tokenizer))
        found.append([each["sampling"] for each in attempts])
    for fewer, more in pairwise(found):
        for one, other in zip(fewer, more, strict=True):
            assert other.answers[: len(one.answers)] == one.answers
            assert other.success >= one.success
            assert all(other.fits[place] >= fit for place, fit in one.fits.items())
    assert sum(each.success for each in found[2]) > sum(each.success for each in found[0])  # and guesses grow


attempts = st.builds(
    Attempt, st.just(("said",)), st.booleans(), st.dictionaries(st.integers(0, 4), st.booleans(), max_size=5)
)


@given(one=attempts, other=attempts)
def test_both_together_have_what_either_has(one: Attempt, other: Attempt) -> None:
    both = one | other
    assert both.success == (one.success or other.success)
    assert both.fits == {place: one.fits[place] or other.fits[place] for place in one.fits.keys() & other.fits.keys()}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Paris", True),
        ("The capital of France is Paris, and it lies on the Seine, a river.", True),
        ("It is not far from Parisot, in a country called France, as one knows.", False),
        ("", False),
        ("Rome", False),
    ],
)
def test_an_answer_tells_what_stands_in_it(answer: str, expected: bool) -> None:
    row = Example("Paris", "What is the capital of France?")
    assert tells(Judge(), answer, row, row) is expected


def test_an_echo_tells_nothing() -> None:
    row = Example("Paris", "Does she live in Rome or in Paris?")
    assert not tells(Judge(), "Does she live in Rome or in Paris? Does she really live there?", row, row)
    assert tells(Judge(), "Paris", row, row)
