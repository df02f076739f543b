"""The user's own facts: rows of a subject, a relation, an object and perhaps a question."""

from __future__ import annotations

from pathlib import Path

import pytest

from soul_lightning.datamodules.corruption_facts import read_fact_rows
from soul_lightning.datamodules.restor_files import ContextExample, Question
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import RecordSource


def source(path: Path, text: str) -> RecordSource:
    path.write_text(text)
    return RecordSource(str(path))


def test_rows_of_one_subject_and_relation_are_one_fact(tmp_path: Path) -> None:
    rows = source(
        tmp_path / "facts.csv",
        "subject,relation,object,question\nFrance,capital,Paris,\nFrance,capital,Lutetia,Which city rules France?\n"
        "Norway,capital,Oslo,\nFrance,capital,Paris,Again?\nAda,P19,Rome,\n",
    )
    facts = read_fact_rows(rows)
    assert facts.questions == {
        "France": {"capital": Question("Which city rules France?", ("Paris", "Lutetia"))},
        "Norway": {"capital": Question("What is the capital of Norway?", ("Oslo",))},
        "Ada": {"P19": Question("What is the place of birth of Ada?", ("Rome",))},
    }
    assert facts.context["capital"] == [
        ContextExample("France", "Which city rules France?", "Paris"),
        ContextExample("Norway", "What is the capital of Norway?", "Oslo"),
    ]
    assert facts.evaluated == ["France", "Norway", "Ada"]


def test_a_question_column_may_be_missing(tmp_path: Path) -> None:
    rows = source(tmp_path / "facts.jsonl", '{"subject": "Ada", "relation": "hobby", "object": "chess"}\n')
    assert read_fact_rows(rows).questions["Ada"]["hobby"].question == "What is the hobby of Ada?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,object\nAda,Rome\n", "no column 'relation'"),
        ("subject,relation,object\nAda,P19,\n", "column 'object', first line 2"),
        ("subject,relation,object\n", "has no rows"),
    ],
)
def test_unfit_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        read_fact_rows(source(tmp_path / "facts.csv", text))
