"""What must be gone, found among a DataModule's probes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soul_lightning.attacks.forgotten import forgotten_probes, kept_questions, turned_round
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe

ROW = Example("paris", "where?", 3, aliases=("lutetia",), perturbed=("rome", "oslo"), paraphrase="it is paris")
TEXT = Probe("forget", "text", [ROW], "forget")
QUESTION = Probe("forget_facts", "question", [ROW], "forget")
ASKED = Probe("forget_questions", "question", [ROW], "forget", rows_of="forget")
REPHRASED = Probe("forget_rephrased", "question", [ROW], "forget", rows_of="forget")
CORRUPTED = Probe("corrupted", "question", [ROW, replace(ROW, index=4, perturbed=())], "corrupted")


def test_questions_of_the_role_forget_come_first() -> None:
    assert forgotten_probes([CORRUPTED, TEXT, QUESTION], "X") == [QUESTION]


def test_texts_are_asked_in_their_own_words_once() -> None:
    assert forgotten_probes([TEXT, ASKED, REPHRASED], "X") == [ASKED]


def test_a_part_of_a_set_is_no_set_of_its_own() -> None:
    parts = [replace(probe, name=f"{probe.name}_1", rows_of=probe.name) for probe in (QUESTION, ASKED)]
    assert forgotten_probes([QUESTION, parts[0]], "X") == [QUESTION]
    assert forgotten_probes([TEXT, ASKED, REPHRASED, parts[1]], "X") == [ASKED]


def test_corrupted_facts_are_turned_round() -> None:
    (probe,) = forgotten_probes([CORRUPTED, TEXT], "X")
    (row,) = probe.examples  # the row without a known lie is left out
    assert (row.answer, row.aliases, row.perturbed) == ("rome", ("oslo",), ("paris", "lutetia"))
    assert row.index == 3
    assert row.paraphrase is None
    assert probe == turned_round(CORRUPTED)


def test_texts_are_what_is_left() -> None:
    assert forgotten_probes([TEXT], "X") == [TEXT]


def test_nothing_to_forget_is_said() -> None:
    kept = Probe("kept", "question", [ROW], "retain")
    with pytest.raises(MisconfigurationError, match=r"Attack needs .* \(there are: retain \(question\)\)"):
        forgotten_probes([kept], "Attack")


def test_kept_questions_are_asked_in_their_own_words() -> None:
    retain, utility, control = (Probe(role, "question", [ROW], role) for role in ("retain", "utility", "control"))
    others = [replace(retain, name="again", rows_of="retain"), replace(retain, name="texts", kind="text"), QUESTION]
    assert kept_questions([control, *others, utility, retain]) == [retain, utility, control]
    texts = Probe("authors", "text", [ROW], "utility")
    asked = replace(utility, name="authors_questions", rows_of="authors")
    assert kept_questions([texts, asked, replace(asked, name="authors_rephrased")]) == [asked]


def test_texts_with_prompts_are_asked_where_nothing_else_asks_them() -> None:
    texts = Probe("retain", "text", [ROW], "retain")
    plain = Probe("web", "text", [replace(ROW, prompt="")], "utility")
    assert kept_questions([texts, plain]) == [replace(texts, kind="question")]
