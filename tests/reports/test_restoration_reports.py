"""Table, CSV, sentences and figure of a comparison."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from soul_lightning.metrics.restoration import RestorationComparison, compare_restoration
from soul_lightning.reports.figures import relation_figure, restoration_figure, save_figure
from soul_lightning.reports.tables import (
    judged_pairs,
    restoration_sentences,
    restoration_table,
    sampled_answers,
    write_restoration_csv,
)
from soul_lightning.scoring.answers import AnswerRow


def rows(model: str, marks: str, role: str = "corrupted") -> list[AnswerRow]:
    return [
        AnswerRow(
            model,
            role,
            role,
            k,
            f"p{k // 2}",
            "lives in",
            f"who | {k}",
            "x",
            f"{model} {k % 3}",
            m == "t",
            m == "f",
            "h",
        )
        for k, m in enumerate(marks)
    ]


def compared(*, with_clean: bool = True) -> RestorationComparison:
    answers = {
        "clean": rows("clean", "tttttttt") + rows("clean", "tt", "control"),
        "corrupted": rows("corrupted", "ffff--t-") + rows("corrupted", "tt", "control"),
        "retain-only": rows("retain-only", "t-f-t-t-") + rows("retain-only", "tt", "control"),
        "unlearned": rows("unlearned", "t-t-t-t-") + rows("unlearned", "t-", "control"),
        "a very long name of a model [bold]": rows("x", "t-t-t-t-") + rows("x", "t-", "control"),
    }
    if not with_clean:
        del answers["clean"]
    return compare_restoration(answers)


def printed(comparison: RestorationComparison) -> str:
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))
    console.print(restoration_table(comparison))
    return console.export_text()


def test_the_table_fits_eighty_columns_and_shows_every_model() -> None:
    text = printed(compared())
    assert max(map(len, text.splitlines())) <= 80
    lines = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert list(lines) == ["clean", "corrupted", "retain-only", "unlearned", "a"]
    assert lines["corrupted"].split()[3:8:2] == ["0.12", "0.50", "1.00"]
    assert "1.00 [1.00, 1.00]" in lines["clean"]
    assert "8 facts of 4 corrupted people, 2 control facts; 95 % intervals" in text


def test_the_mark_of_a_repaired_model_is_never_cut() -> None:
    answers = {name: rows("m", "t-f-") for name in ("clean", "a-very-long-name-of-a-model (repaired)")}
    lines = [line.split("│")[1].strip() for line in printed(compare_restoration(answers)).splitlines() if "│" in line]
    assert lines[::2] == ["clean", "(repaired)"]
    assert "a-very-long-name-of-a-model".startswith(lines[1])


def test_without_restoration_a_sentence_says_why() -> None:
    comparison = compared(with_clean=False)
    assert "–" in printed(comparison)
    sentences = restoration_sentences(comparison)
    assert "no clean model" in sentences[0]
    assert sentences[1].startswith("unlearned minus retain-only: false answers -0.12 [")
    assert not any(sentence.startswith("corrupted minus") for sentence in sentences)


def test_csv_holds_every_number(tmp_path: Path) -> None:
    comparison = compared()
    path = tmp_path / "rows" / "restoration.csv"
    write_restoration_csv(path, comparison)
    with path.open(newline="", encoding="utf-8") as file:
        records = {record["model"]: record for record in csv.DictReader(file)}
    restoration = comparison.scores["unlearned"].restoration
    assert restoration is not None
    assert float(records["unlearned"]["restoration"]) == restoration.value
    assert float(records["unlearned"]["restoration_low"]) == restoration.low
    assert records["retain-only"]["restoration_minus_baseline"] == ""
    assert records["unlearned"]["baseline"] == "retain-only"


def test_answers_are_paired_and_judged() -> None:
    pairs = judged_pairs(rows("m", "tf-"), rows("n", "--t")[1:])
    assert [(pair.question, pair.before, pair.after) for pair in pairs] == [
        ("who | 1", "m 1 (false)", "n 1 (other)"),
        ("who | 2", "m 2 (other)", "n 2 (true)"),
    ]


def test_a_sample_of_answers_is_drawn_by_its_seed_from_each_set() -> None:
    marks = "t" * 20
    pairs = judged_pairs(rows("m", marks), rows("n", marks)) + judged_pairs(
        rows("m", marks, "control"), rows("n", marks, "control")
    )
    drawn = [sampled_answers(pairs, each=4, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [row[0] for row in drawn[0]] == ["corrupted"] * 4 + ["control"] * 4
    numbers = [int(row[1].split()[-1]) for row in drawn[0][:4]]
    assert numbers == sorted(set(numbers))
    assert len(sampled_answers(pairs, each=99)) == len(pairs)


def test_the_figure_has_labelled_axes_and_a_file(tmp_path: Path) -> None:
    figure = restoration_figure(compared())
    assert [axis.get_ylabel() for axis in figure.axes] == ["share of answers", "restoration\n(0 corrupted, 1 clean)"]
    assert len(restoration_figure(compared(with_clean=False)).axes) == 1
    save_figure(figure, tmp_path / "restoration.png")
    assert (tmp_path / "restoration.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_figure_shows_each_relation_that_lost_something() -> None:
    answers = {
        "clean": rows("clean", "tttt"),
        "corrupted": rows("corrupted", "ff-t"),
        "retain-only": rows("retain-only", "tfft"),
        "unlearned": rows("unlearned", "ttft"),
    }
    relations = ("born in", "born in", "speaks", "plays")  # nothing of the last was lost
    answers = {
        model: [replace(row, relation=name) for row, name in zip(own, relations, strict=True)]
        for model, own in answers.items()
    }
    figure = relation_figure(compare_restoration(answers))
    assert figure is not None
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["speaks", "born in"]
    bars = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers if len(bars) == 2}
    assert bars["unlearned"] == [0.0, 1.0]
    assert bars["retain-only"] == [0.0, 0.5]


def test_without_relations_or_a_clean_model_there_is_no_figure_of_them() -> None:
    assert relation_figure(compared(with_clean=False)) is None
    unnamed = {model: [replace(row, relation="") for row in rows(model, "tf")] for model in ("clean", "corrupted", "x")}
    assert relation_figure(compare_restoration(unnamed)) is None
