"""Files become probes by their columns, and what is wrong with them is said with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.probe_files import ProbeFile, read_probe
from soul_lightning.templates import TEMPLATES, PromptTemplate
from tests.conftest import PLAIN, real_data

Row = dict[str, Any]


def write(folder: Path, *rows: Row, name: str = "rows.jsonl") -> str:
    path = folder / name
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(folder: Path, *rows: Row, **settings: Any) -> Probe:
    return read_probe(ProbeFile(write(folder, *rows), **({"role": "forget"} | settings)), PLAIN)


KINDS: dict[str, tuple[Row, str, Example]] = {
    "question": (
        {"question": "who ?", "answer": "ada"},
        "question",
        Example("ada", "who ?"),
    ),
    "everything": (
        {
            "prompt": "who ?", "answer": "ada", "context": "bela is a judge . ", "paraphrase": "it is ada",
            "perturbed": ["cora", "dina"], "aliases": ["ada a"], "subject": "ada", "relation": "name", "more": 1,
        },
        "question",
        Example(
            "ada", "who ?", context="bela is a judge . ", paraphrase="it is ada", perturbed=("cora", "dina"),
            aliases=("ada a",), subject="ada", relation="name",
        ),
    ),
    "names of TOFU": (
        {
            "question": "who ?", "answer": "ada", "paraphrased_answer": "it is ada", "perturbed_answer": ["cora"],
            "author": "ada",
        },
        "question",
        Example("ada", "who ?", paraphrase="it is ada", perturbed=("cora",), subject="ada"),
    ),
    "prompt": ({"prompt": "you are"}, "prompt", Example("", "you are")),
    "text": ({"text": "ada lives in paris"}, "text", Example("ada lives in paris")),
    "text beside an answer": ({"text": "ada lives", "answer": "yes"}, "text", Example("ada lives")),
    "multiple choice": (
        {"question": "who ?", "choices": ["cora", "ada", "dina"], "gold": 1},
        "multiple_choice",
        Example("ada", "who ?", perturbed=("cora", "dina")),
    ),
    "multiple choice by other names": (
        {"prompt": "who ?", "options": ["ada", "cora"], "label": 0, "context": "bela . ", "entity": "ada"},
        "multiple_choice",
        Example("ada", "who ?", context="bela . ", perturbed=("cora",), subject="ada"),
    ),
    "the first name wins": (
        {"question": "where ?", "prompt": "who ?", "answer": "ada"},
        "question",
        Example("ada", "who ?"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_columns_say_what_a_file_is(tmp_path: Path, name: str) -> None:
    row, kind, example = KINDS[name]
    probe = read(tmp_path, row)
    assert (probe.kind, probe.examples) == (kind, [example])
    assert (probe.name, probe.role, probe.template) == ("forget", "forget", PLAIN)


GIVEN: list[tuple[Row, str, Example]] = [
    ({"question": "who ?", "answer": "ada"}, "text", Example("ada", "who ?")),
    ({"question": "who ?", "answer": "ada"}, "prompt", Example("ada", "who ?")),
    ({"question": "who ?", "text": "it is ada"}, "text", Example("it is ada", "who ?")),
    ({"answer": "ada lives in paris"}, "text", Example("ada lives in paris")),
    (
        {"question": "who ?", "answer": "ada", "perturbed": ["cora"]},
        "multiple_choice",
        Example("ada", "who ?", perturbed=("cora",)),
    ),
    (
        {"question": "who ?", "choices": ["cora", "ada"], "gold": 1},
        "question",
        Example("ada", "who ?", perturbed=("cora",)),
    ),
]


@pytest.mark.parametrize(("row", "kind", "example"), GIVEN)
def test_a_given_kind_goes_before_the_columns(tmp_path: Path, row: Row, kind: str, example: Example) -> None:
    probe = read(tmp_path, row, kind=kind, name="mine", role="utility", template="tofu")
    assert probe == Probe("mine", kind, [example], "utility", TEMPLATES["tofu"])


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_are_numbered_and_may_lack_what_is_optional(tmp_path: Path, name: str) -> None:
    full = {"question": "who ?", "answer": "ada", "aliases": ["a"], "perturbed": ["b"], "paraphrase": "c"}
    bare = {"question": "where ?", "answer": "oslo"}
    hollow: Row = {"question": "when ?", "answer": "now", "aliases": [], "perturbed": None, "paraphrase": ""}
    probe = read_probe(ProbeFile(write(tmp_path, full, bare, hollow, name=name), "retain"), PLAIN)
    assert probe.examples == [
        Example("ada", "who ?", 0, aliases=("a",), perturbed=("b",), paraphrase="c"),
        Example("oslo", "where ?", 1),
        Example("now", "when ?", 2),
    ]


def test_a_text_file_holds_texts_and_a_table_questions(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("one\ntwo\n\nthree\n")
    probe = read_probe(ProbeFile(str(tmp_path / "book.txt"), "holdout"), PromptTemplate())
    assert (probe.kind, probe.examples) == ("text", [Example("one\ntwo"), Example("three", index=1)])
    table = write(tmp_path, {"question": "who ?", "answer": "ada", "subject": None}, name="rows.csv")
    assert read_probe(ProbeFile(table, "forget"), PLAIN).examples == [Example("ada", "who ?")]


GOOD = {"question": "who ?", "choices": ["ada", "cora"], "gold": 0}
FAULTS: dict[str, tuple[list[Row], str | None, str]] = {
    "no answer in a row": (
        [{"question": "who ?", "answer": "ada"}, {"question": "who ?", "answer": " "}],
        None,
        r"1 of 2 rows of .*rows\.jsonl hold no text in the column 'answer', first line 2 with ' '",
    ),
    "no columns that are known": ([{"sentence": "a _ b"}], None, r"no column 'text' in .*rows\.jsonl, .* 'sentence'"),
    "no prompts": ([{"text": "ada"}], "question", r"no column 'prompt' in .*rows\.jsonl, which has 'text'"),
    "no answers": ([{"prompt": "who ?"}], "question", r"no column 'answer' in .*rows\.jsonl, which has 'prompt'"),
    "no false answers": (
        [{"prompt": "who ?", "answer": "ada"}],
        "multiple_choice",
        r"no column 'perturbed' in .*rows\.jsonl",
    ),
    "no false answer in a row": (
        [{"prompt": "who ?", "answer": "ada", "perturbed": ["b"]}, {"prompt": "who ?", "answer": "ada"}],
        "multiple_choice",
        r"line 2 of .*rows\.jsonl holds None in the column 'perturbed', not a list of texts",
    ),
    "a text in place of a list": (
        [{"question": "?", "answer": "ada"}, {"question": "?", "answer": "ada", "aliases": "a"}],
        None,
        r"line 2 of .*rows\.jsonl holds 'a' in the column 'aliases', not a list of texts",
    ),
    "an empty alias": (
        [{"question": "?", "answer": "ada", "aliases": ["a", ""]}],
        None,
        r"line 1 of .* in the column 'aliases', not a list of texts",
    ),
    "a number as subject": ([{"text": "ada", "subject": 5}], None, r"'subject', first line 1 with 5; write them as"),
    "an object as prompt": ([{"prompt": {"text": "you"}}], None, r"no text in the column 'prompt', first line 1 with"),
    "no right option": (
        [GOOD, {"question": "who ?", "choices": ["ada", "cora"]}],
        None,
        r"line 2 of .*rows\.jsonl has 2 choices and names None as the right one; write at least two, .* from 0",
    ),
    "a right option too far": ([{**GOOD, "gold": 2}], None, "line 1 of .* has 2 choices and names 2 as the right one"),
    "a letter as gold": ([{**GOOD, "gold": "A"}], None, "names 'A' as the right one"),
    "true as gold": ([{**GOOD, "gold": True}], None, "names True as the right one"),
    "one option": ([GOOD, {**GOOD, "choices": ["ada"]}], None, "line 2 of .* has 1 choices"),
    "no options in a row": ([{**GOOD, "choices": []}], None, "line 1 of .* in the column 'choices', not a list"),
    "no gold": ([{"question": "who ?", "choices": ["a", "b"]}], None, r"no column 'gold' in .*rows\.jsonl"),
    "options without questions": ([{"options": ["a", "b"], "gold": 0}], None, r"no column 'prompt' in .*rows\.jsonl"),
    "nothing": ([], None, r"the probe file .*rows\.jsonl has no rows; give a file with at least one"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_file_and_line(tmp_path: Path, name: str) -> None:
    rows, kind, message = FAULTS[name]
    with pytest.raises(MisconfigurationError, match=message) as caught:
        read(tmp_path, *rows, kind=kind)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_with_its_role(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"the probe file of the role forget: there is no file .*none\.csv"):
        read_probe(ProbeFile(str(tmp_path / "none.csv"), "forget"), PLAIN)
    path = tmp_path / "torn.jsonl"
    path.write_text('{"text": "ada"}\n{"text": ')
    with pytest.raises(MisconfigurationError, match=r"torn\.jsonl:2 is not valid JSON"):
        read_probe(ProbeFile(str(path), "forget"), PLAIN)


def real(name: str, role: str = "forget", **settings: Any) -> Probe:
    return read_probe(ProbeFile(str(real_data(name)), role, **settings), PLAIN)


@pytest.mark.real
def test_questions_of_tofu() -> None:
    probe = real("tofu/forget01_perturbed.jsonl")
    assert (probe.kind, len(probe.examples)) == ("question", 40)
    assert [row.index for row in probe.examples] == list(range(40))
    assert all(row.paraphrase and len(row.perturbed) >= 3 and row.prompt.endswith("?") for row in probe.examples)
    assert "Basil Mahfouz Al-Kuwaiti" in probe.examples[0].answer
    assert all(row.answer not in row.perturbed for row in probe.examples)


@pytest.mark.real
@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "boolq", "hellaswag", "openbookqa", "piqa"])
def test_published_multiple_choice(name: str) -> None:
    path = real_data(f"utility/{name}.jsonl")
    probe = real(f"utility/{name}.jsonl", "utility")
    raw = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert (probe.kind, len(probe.examples)) == ("multiple_choice", len(raw))
    for row, record in zip(probe.examples, raw, strict=True):
        assert row.answer == record["choices"][record["gold"]]
        assert sorted((row.answer, *row.perturbed)) == sorted(record["choices"])


@pytest.mark.real
def test_texts_of_c4() -> None:
    probe = real("c4/c4_en_200words.jsonl", "retain")
    assert (probe.kind, probe.role, len(probe.examples)) == ("text", "retain", 1480)
    assert all(row.answer and not row.prompt for row in probe.examples)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("utility/winogrande.jsonl", r"no column 'text' in .*winogrande\.jsonl, which has 'id', 'sentence'"),
        (
            "real_toxicity_prompts/rtp_val_5000.jsonl",
            r"5000 of 5000 rows of .*_5000\.jsonl hold no text in the column 'prompt', first line 1 with \{'text",
        ),
    ],
)
def test_published_files_of_another_form_are_refused(name: str, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        real(name)
