"""The table of several callbacks and models: narrow enough for a terminal, and nothing in it is lost."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from soul_lightning.reports.evaluation import EvaluationSection, evaluation_table, metric_names, readable

Columns = dict[str, dict[str, float | None]]


def printed(sections: list[EvaluationSection], width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(evaluation_table(sections))
    return console.export_text()


def rows_of(text: str) -> list[list[str]]:
    """The cells of each line within the table, without outer white space."""
    lines = [line.replace("┃", "│") for line in text.split("\n") if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


MODELS = ("before", "retain-only", "a-model-with-a-very-long-name_of.4711", "after")
LONG = "retained_multiple_choice_accuracy_of_the_hardest_questions"


def test_four_models_and_long_names_fit_eighty_columns() -> None:
    intervals = {LONG: -0.123456, f"{LONG}_low": -1.234e-5, f"{LONG}_high": -1.234e-9, "nll": 1234.56}
    sections = [
        EvaluationSection("memorization", {model: dict(intervals) for model in MODELS}),
        EvaluationSection("a_group_with_quite_a_long_name_of_its_own_and_more", {"after": {"auc": 0.5}}),
    ]
    text = printed(sections)
    assert max(cell_len(line) for line in text.split("\n")) <= 80
    columns = [" ".join(cells) for cells in zip(*rows_of(text), strict=True)]
    assert LONG in columns[0].replace(" ", "")
    assert "a_group_with_quite_a_long_name_of_its_own_and_more" in columns[0].replace(" ", "")
    for model, column in zip(MODELS, columns[1:], strict=True):
        assert model in column.replace(" ", "")
        assert {"-0.123", "-1.2e-05", "to", "-1.2e-09", "1235"} <= set(column.split())  # no number is broken


@given(
    st.lists(
        st.fixed_dictionaries({"auc": st.floats(), "auc_low": st.floats(), "auc_high": st.floats()}),
        min_size=1,
        max_size=4,
    )
)
def test_any_numbers_fit_eighty_columns_unbroken(columns: list[dict[str, float]]) -> None:
    measured: Columns = {f"model-{place}": dict(column) for place, column in enumerate(columns)}
    text = printed([EvaluationSection("membership", {name: {**each, LONG: 0.5} for name, each in measured.items()})])
    assert max(cell_len(line) for line in text.split("\n")) <= 80
    found = [" ".join(cells).split() for cells in zip(*rows_of(text), strict=True)]
    for column, cells in zip(columns, found[1:], strict=True):
        assert {readable(value) for value in column.values()} <= set(cells)


def test_rows_and_columns() -> None:
    sections = [
        EvaluationSection(
            "membership",
            {
                "before": {"loss_auc": 0.91, "loss_auc_low": 0.85, "loss_auc_high": 0.97, "tpr": None, "never": None},
                "after": {"loss_auc": 0.52, "loss_auc_low": None, "loss_auc_high": 0.6, "tpr": 0.0, "never": None},
            },
        ),
        EvaluationSection("utility", {"retain-only": {"nll": 2.5}, "after": {"nll": 3.0, "nll_relative": 1.2}}),
    ]
    assert rows_of(printed(sections)) == [
        ["metric", "before", "after", "retain-only"],
        ["membership", "", "", ""],
        ["loss_auc", "0.91", "0.52", "–"],
        ["", "0.85 to 0.97", "", ""],
        ["tpr", "–", "0", "–"],
        ["utility", "", "", ""],
        ["nll", "–", "3", "2.5"],
    ]


def test_names_of_the_rows() -> None:
    section = EvaluationSection(
        "membership",
        {
            "before": {"early": 1.0, "auc": 0.5},
            "after": {"auc": 0.5, "auc_low": 0.4, "auc_high": 0.6, "auc_relative": 1.0, "privleak": 3.0, "gone": None},
        },
    )
    assert metric_names(section) == ["auc", "privleak", "early"]
    # a border is one only beside its metric
    assert metric_names(EvaluationSection("x", {"after": {"water_low": 1.0, "water": None}})) == ["water_low"]
    assert metric_names(EvaluationSection("x", {})) == []


def test_brackets_in_names_are_no_markup() -> None:
    names = ("[bold]", "[/]", "[red]x[/red]")
    sections = [EvaluationSection(names[0], {names[1]: {names[2]: 0.25}, "[link=x]": {names[2]: 0.5}})]
    text = printed(sections)
    assert [cells for cells in rows_of(text)] == [
        ["metric", "[/]", "[link=x]"],
        ["[bold]", "", ""],
        ["[red]x[/red]", "0.25", "0.5"],
    ]


def test_nothing_measured_is_an_empty_table() -> None:
    assert rows_of(printed([])) == [["metric"]]
    assert rows_of(printed([EvaluationSection("utility", {})])) == [["metric"], ["utility"]]
    assert rows_of(printed([EvaluationSection("utility", {"after": {"nll": None}})])) == [
        ["metric", "after"],
        ["utility", ""],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1, "1"), (0.5, "0.5"), (0.12345, "0.123"), (-0.12355, "-0.124"), (12.345, "12.3"),
        (999.4, "999"), (999.5, "1000"), (999.9, "1000"), (1234.5, "1234"), (99_999.4, "99999"), (123_456, "1.2e+05"),
        (0.001, "0.001"), (0.00099, "9.9e-04"), (1e-300, "1.0e-300"), (-1e300, "-1.0e+300"), (5e-324, "4.9e-324"),
        (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "nan"),
    ],
)  # fmt: skip
def test_readable_numbers(value: float, text: str) -> None:
    assert readable(value) == text


@given(st.floats(-1e308, 1e308))
def test_readable_numbers_are_short_and_near(value: float) -> None:
    text = readable(value)
    assert len(text) <= 9
    assert float(text) == pytest.approx(value, rel=0.051, abs=5e-324)
    assert "e" not in text or not 1e-3 <= abs(value) < 1e5
