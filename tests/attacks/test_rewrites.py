"""Each rewrite by hand, and what holds of all of them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from soul_lightning.attacks.rewrites import REWRITES, Material, RewriteName, RewriteSettings, gives_away
from soul_lightning.attacks.wordings import JAILBREAKS, QUESTION, REFRAMED, ROLES, TRANSLATIONS
from soul_lightning.metrics.judge import normalise, stands_in
from soul_lightning.protocols import Example, Turn
from soul_lightning.templates import PromptTemplate
from tests.conftest import make_tokenizer

TEMPLATE = PromptTemplate(prompt="Q: {prompt} A:", answer=" {answer}", between=" / ")
CHAT = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
ROW = Example("Paris and Rome", "Where has Ada lived?", 7, subject="Ada", relation="home", aliases=("Paris and Roma",))
JOB = Example("a baker", "What does Ada do?", 8, subject="Ada", relation="job")
PET = Example("a cat", "Which pet has Ada?", 9, subject="Ada", relation="pet")
OTHERS = [Example(f"town {n}", f"Where has P{n} lived?", n, subject=f"P{n}", relation="home") for n in range(7)]


def material(**settings: Any) -> Material:
    return Material(TEMPLATE, make_tokenizer(), **settings)


def texts(rewrite: RewriteName, row: Example = ROW, seed: int = 0, **settings: Any) -> list[str]:
    """What the model reads."""
    with_them = material(**settings)
    found = REWRITES[rewrite](row, with_them, Random(seed))
    return [with_them.template.render_prompt(text, with_them.tokenizer) for text in found]


def test_plain_and_sampling_ask_in_the_rows_own_words() -> None:
    assert texts("plain") == texts("sampling") == ["Q: Where has Ada lived? A:"]


@pytest.mark.parametrize(
    ("rewrite", "wordings"), [("role_play", ROLES), ("jailbreak", JAILBREAKS), ("translation", TRANSLATIONS)]
)
def test_wrappers_stand_where_a_user_would_write_them(rewrite: RewriteName, wordings: Sequence[str]) -> None:
    assert len(wordings) >= 3
    assert texts(rewrite) == [f"Q: {wording.removesuffix(QUESTION)}Where has Ada lived? A:" for wording in wordings]
    assert (
        texts(rewrite, replace(ROW, prompt="", context="Ada has lived in")) == []
    )  # no question that could be wrapped


def test_paraphrases_are_the_datas_own_and_ours() -> None:
    own = Example("in Paris and in Rome", "Ada has lived where?", 7)
    with_own = material(reworded={7: [own]})
    first, *others = REWRITES["paraphrase"](ROW, with_own, Random(0))
    assert (first.prompt, first.answer) == ("Ada has lived where?", ROW.answer)
    assert first.accepted == ("Paris and Rome", "Paris and Roma", "in Paris and in Rome")
    assert [other.prompt for other in others] == [wording.replace(QUESTION, ROW.prompt) for wording in REFRAMED]
    assert len(REWRITES["paraphrase"](replace(ROW, index=8), with_own, Random(0))) == len(REFRAMED)


def test_in_context_shows_the_subjects_other_facts() -> None:
    same = Example("In Rome, in Paris", "Ada's towns?", 10, subject="Ada", relation="home")  # the asked one once more
    shows = Example("a map of Paris and Rome", "What is on Ada's wall?", 11, subject="Ada", relation="wall")
    about = {"Ada": [ROW, JOB, PET, same, shows], "P0": OTHERS[:1]}
    (found,) = texts("in_context", about=about)
    job, pet = "Q: What does Ada do? A: a baker / ", "Q: Which pet has Ada? A: a cat / "
    assert found in {f"{job}{pet}Q: Where has Ada lived? A:", f"{pet}{job}Q: Where has Ada lived? A:"}
    assert texts("in_context", about={"Ada": [ROW]}) == texts("in_context", replace(ROW, subject=None)) == []
    (one,) = texts("in_context", about=about, settings=RewriteSettings(pairs=1))
    assert one in {f"{job}Q: Where has Ada lived? A:", f"{pet}Q: Where has Ada lived? A:"}


def test_few_shots_are_the_first_that_show_no_answer() -> None:
    shows = Example("Paris and Rome", "Where has Bela lived?", 1, subject="Bela")
    (found,) = texts("few_shot_retain", kept=[shows, PET, *OTHERS], settings=RewriteSettings(pairs=2))
    assert found == ("Q: Where has P0 lived? A: town 0 / Q: Where has P1 lived? A: town 1 / Q: Where has Ada lived? A:")
    assert texts("few_shot_retain") == []


def test_pairs_are_left_out_where_there_is_no_room() -> None:
    whole = len(make_tokenizer()(texts("few_shot_retain", kept=OTHERS[:3])[0])["input_ids"])
    for room, shown in ((whole, 3), (whole - 1, 2), (whole // 2, 1), (5, 0)):
        found = texts("few_shot_retain", kept=OTHERS[:3], most_tokens=room)
        assert sum(text.count("town") for text in found) == shown


def test_a_given_beginning_is_no_part_of_what_is_right() -> None:
    (found,) = REWRITES["answer_prefix"](ROW, material(), Random(0))
    assert (found.context, found.prompt) == ("Q: Where has Ada lived? A: Paris", "")
    assert found.accepted == ("and Rome", "and Roma")
    more = material(settings=RewriteSettings(given=0.7))
    (found,) = REWRITES["answer_prefix"](ROW, more, Random(0))
    assert (found.context, found.answer) == ("Q: Where has Ada lived? A: Paris and", "Rome")
    for alone in ("Paris", " Paris ", "Paris !", ""):
        assert REWRITES["answer_prefix"](replace(ROW, answer=alone), material(), Random(0)) == []


def test_a_chat_takes_pairs_as_turns_behind_its_system_message() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    with_them = Material(PromptTemplate(chat=True), tokenizer, about={"Ada": [PET]}, kept=OTHERS[:1])
    row = replace(ROW, turns=(Turn("system", "be brief"), Turn("user", "hi"), Turn("assistant", "hello")))
    read = {
        name: with_them.template.render_prompt(REWRITES[name](row, with_them, Random(0))[0], tokenizer)
        for name in ("in_context", "answer_prefix", "jailbreak")
    }
    before, asked = "[system] be brief ", "[user] hi [assistant] hello [user] Where has Ada lived? [assistant] "
    assert read["in_context"] == f"{before}[user] Which pet has Ada? [assistant] a cat {asked}"
    assert read["answer_prefix"] == f"{before}{asked}Paris"
    assert read["jailbreak"] == before + asked.replace("Where", JAILBREAKS[0].replace(QUESTION, "Where"))


words = st.text(string.ascii_letters + "{}%$\\é", min_size=1, max_size=8)
answers = st.lists(st.text("xqzXQZ", min_size=3, max_size=6), min_size=1, max_size=4).map(" ".join)


@given(
    name=st.sampled_from(sorted(REWRITES)),
    prompt=st.lists(words, min_size=1, max_size=8).map(" ".join),
    answer=answers,
    others=st.lists(st.tuples(words, answers | words), max_size=4),
    seed=st.integers(0, 5),
)
def test_no_rewrite_shows_the_fact_and_each_is_a_function_of_its_arguments(
    name: RewriteName, prompt: str, answer: str, others: list[tuple[str, str]], seed: int
) -> None:
    row = Example(answer, prompt, subject="who")
    pairs = [Example(said, asked, number, subject="who") for number, (asked, said) in enumerate(others)]
    kept = [replace(pair, subject="other") for pair in pairs]
    settings: dict[str, Any] = {"about": {"who": [row, *pairs]}, "kept": kept}
    found = texts(name, row, seed, **settings)
    assert found == texts(name, row, seed, **settings)
    if not stands_in(normalise(answer), " ".join(prompt.split())):
        assert not any(stands_in(normalise(answer), " ".join(text.split())) for text in found)
    if name not in ("noise", "answer_prefix"):
        assert all(f"{prompt} A:" in text for text in found)  # braces and all


def test_what_gives_a_fact_away() -> None:
    assert gives_away(replace(PET, relation="home"), ROW)
    assert gives_away(replace(PET, answer="paris and ROMA!"), ROW)
    assert gives_away(replace(PET, prompt="Who went from Paris\nand Rome to Oslo?"), ROW)
    assert not gives_away(replace(PET, answer="Paris"), replace(ROW, answer="Paris and Rome and Oslo and Bern"))
    assert not gives_away(JOB, ROW)
    assert not gives_away(OTHERS[0], replace(ROW, relation=None))


def test_the_tokenizer_of_the_tests_is_enough(tokenizer: PreTrainedTokenizerFast) -> None:
    """Word-level tokenizers see a wrapper as unknown words, and the question behind it as it is."""
    row = Example("oslo", "where does ada live ?")
    (first, *_) = REWRITES["role_play"](row, Material(PromptTemplate("{prompt}"), tokenizer), Random(0))
    assert tokenizer(first.prompt)["input_ids"][-5:] == tokenizer(row.prompt)["input_ids"][-5:]
