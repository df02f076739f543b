"""Tables, records and figure of a sequence of unlearning requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.image
import pytest
from rich.console import Console

from soul_lightning.reports.figures import save_figure
from soul_lightning.reports.request_figure import request_figure
from soul_lightning.reports.request_states import (
    KEPT_ROLES,
    Measured,
    RequestState,
    kept_role,
    measure_state,
    request_of,
    request_records,
)
from soul_lightning.reports.request_tables import definitions, request_sentences, request_table
from soul_lightning.scoring.answers import AnswerRow

PEOPLE, QUESTIONS = 4, 5


def answers(shares: Mapping[str, float], role: str = "corrupted", seeds: Sequence[int] = (0,)) -> list[AnswerRow]:
    """Five questions a person; the given share of each person's is answered falsely, or truly where it must stay."""
    rows = []
    for probe, share in shares.items():
        kept = probe in KEPT_ROLES
        for seed in seeds:
            for index in range(PEOPLE * QUESTIONS):
                hit = index % QUESTIONS < share * QUESTIONS
                told = role == "corrupted" and not kept
                rows.append(
                    AnswerRow(
                        "m", probe if kept else f"{role}_{probe}", probe if kept else role, index,
                        f"{probe} {index // QUESTIONS}", "", "", "", "", hit != told, hit and told, "", seed,
                    )
                )  # fmt: skip
    return rows


@pytest.fixture
def states() -> list[RequestState]:
    """Three requests, the first withdrawn in two ways, and one size."""

    def rows(first: float, second: float, third: float, control: float) -> list[AnswerRow]:
        return answers({"1": first, "2": second, "3": third, "control": control, "retain": 1.0})

    return [
        RequestState("", 0, "clean", "before", rows(0, 0, 0, 1)),
        RequestState("", 0, "corrupted", "start", rows(0.8, 0.8, 0.6, 1)),
        RequestState("npo", 1, "forget 1", "forget", rows(0, 0.6, 0.6, 0.8), (1,), (), (1,), 40, 2.0),
        RequestState("npo", 2, "forget 2", "forget", rows(0.2, 0, 0.4, 0.8), (1, 2), (), (2,), 40, 2.5),
        RequestState("npo", 3, "withdraw 1, relearn", "withdraw", rows(1, 0.2, 0.4, 0.6), (2,), (1,), (1,), 20, 1.0),
        RequestState("npo", 3, "withdraw 1, redo", "beside", rows(0.6, 0, 0.4, 0.8), (2,), (1,), (1,), 40, 2.2),
        RequestState("npo", 2, "2 of 3", "size", rows(0, 0.2, 0.4, 0.8), (1, 2), (), (1, 2), 80, 5.0),
    ]  # fmt: skip


@pytest.fixture
def measured(states: list[RequestState]) -> list[dict[str, Measured]]:
    """Against the corrupted model."""
    return [measure_state(state, states[1].rows) for state in states]


def shown(title: str, states: Sequence[RequestState], measured: Sequence[dict[str, Measured]], width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(request_table(title, states, measured, width))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_requests_are_measured_apart_and_by_what_should_have_become_of_them(
    measured: list[dict[str, Measured]],
) -> None:
    own = measured[3]
    assert {name: (group.state, group.answered.value) for name, group in own.items() if name.startswith("request")} == {
        "request 1": ("forgotten", 0.2), "request 2": ("forgotten", 0.0), "request 3": ("to come", 0.4),
    }  # fmt: skip
    assert own["forgotten"].answered.value == pytest.approx(0.1)
    assert own["earlier"].answered.value == pytest.approx(0.2)
    assert own["forgotten"].questions == 2 * PEOPLE * QUESTIONS
    assert own["forgotten"].subjects == 2 * PEOPLE
    assert own["request 1"].change.value == pytest.approx(-0.6)
    assert own["request 1"].true is not None
    assert own["request 1"].true.value == pytest.approx(0.8)
    assert own["control"].true is None
    assert (own["control"].state, own["control"].change.value) == ("kept", pytest.approx(-0.2))
    assert measured[4]["withdrawn"].answered.value == 1.0
    assert "earlier" not in measured[2]
    assert "withdrawn" not in measured[3]


def test_an_interval_where_all_say_the_same_stays_a_share(measured: list[dict[str, Measured]]) -> None:
    none = measured[2]["request 1"].answered
    assert (none.value, none.low) == (0.0, 0.0)
    assert 0.3 < none.high < 1.0, "four people do not show that it is nothing"


def test_of_ordinary_facts_true_answers_are_what_is_still_there() -> None:
    rows = answers({"1": 0.6, "2": 0.2}, role="forget", seeds=(0, 1))
    own = measure_state(RequestState("", 0, "start", "start", rows), rows)
    assert own["request 1"].answered.value == pytest.approx(0.6)
    assert own["request 1"].true is None
    assert own["request 1"].subjects == 2 * PEOPLE, "a person of two runs is two"
    assert kept_role(own) is None
    assert {request_of(row) for row in rows} == {1, 2}
    lines = shown("plain", [RequestState("", 0, "start", "start", rows)], [own], 80)
    assert not any("true" in line for line in lines)
    assert len(definitions(own)) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_a_column_a_request_and_fits(
    states: list[RequestState], measured: list[dict[str, Measured]], width: int
) -> None:
    lines = shown("npo", states[:6], measured[:6], width)
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if "forget 2" in line]
    assert row.split() == ["forget", "2", "0.20", "0.00", "0.40", "0.90", "0.80", "40", "2.5"]
    (row,) = [line for line in lines if "corrupted" in line]
    assert row.split() == ["corrupted", "0.80", "0.80", "0.60", "0.27", "1.00", "–", "–"]


def test_many_requests_stand_together(states: list[RequestState], measured: list[dict[str, Measured]]) -> None:
    many = answers({str(number): 0.4 if number > 5 else 0.0 for number in range(1, 13)})
    state = RequestState("npo", 5, "forget 5", "forget", many, (1, 2, 3, 4, 5), (), (5,), 40, 2.0)
    groups = measure_state(state, many)
    assert len([name for name in groups if name.startswith("request")]) == 12
    for width, words in ((80, ["asked", "earlier", "to", "come"]), (140, [str(number) for number in range(1, 13)])):
        lines = shown("npo", [state], [groups], width)
        assert max(map(len, lines)) <= width
        (header,) = [line for line in lines if "CPU s" in line]
        assert header.split()[1 : 1 + len(words)] == words
    (row,) = [line for line in shown("npo", [state], [groups], 80) if "forget 5" in line]
    assert row.split()[2:5] == ["0.00", "0.00", "0.40"]


def test_sentences_have_the_intervals(states: list[RequestState], measured: list[dict[str, Measured]]) -> None:
    last, relearned, redone = request_sentences(states, measured)
    assert last.startswith("npo after the last step: forgotten 0.20 [")
    assert "control 0.60 [" in last
    assert "-0.40 [" in last
    assert relearned.startswith("npo, withdraw 1, relearn: answers to it 1.00 [")
    assert "+0.20 [" in relearned
    assert relearned.endswith("20 optimizer steps, 1.0 s.")
    assert redone.startswith("npo, withdraw 1, redo: answers to it 0.60 [")


def test_every_record_has_the_same_keys(states: list[RequestState], measured: list[dict[str, Measured]]) -> None:
    records = request_records(states, measured)
    assert len({tuple(record) for record in records}) == 1
    (own,) = [r for r in records if (r["event"], r["group"]) == ("withdraw 1, redo", "withdrawn")]
    assert (own["kind"], own["state"], own["answered"], own["optimizer_steps"]) == ("beside", "withdrawn", 0.6, 40)
    (kept,) = [r for r in records if (r["event"], r["group"]) == ("clean", "control")]
    assert (kept["true"], kept["optimizer_steps"], kept["answered"]) == (None, None, 1.0)


def test_the_figure_has_a_line_a_request_and_marks_what_happens(
    states: list[RequestState], measured: list[dict[str, Measured]], tmp_path: Path
) -> None:
    figure = request_figure(states, measured)
    above, sizes, below, kept = figure.axes
    marks = [line for line in above.lines if len(set(line.get_xdata())) == 1 and line.get_linestyle() in (":", "--")]
    assert [line.get_linestyle() for line in marks] == [":", ":", "--"]
    assert [text.get_text() for text in above.texts] == ["forget 1", "forget 2", "withdraw 1\nrelearn"]
    lines = [list(line.get_ydata()) for line in above.lines if len(line.get_ydata()) == 4]
    assert lines == [[0.8, 0.0, 0.2, 1.0], [0.8, 0.6, 0.0, 0.2], [0.6, 0.6, 0.4, 0.4]]
    assert above.get_ylabel() == "still answered falsely, share"
    assert next(list(line.get_ydata()) for line in below.lines if len(line.get_ydata()) == 4) == [1.0, 0.8, 0.8, 0.6]
    assert [text.get_text() for text in below.get_legend().get_texts()] == ["control", "retain"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "request 1", "request 2", "request 3", "withdrawn by redo instead",
    ]  # fmt: skip
    assert sizes.get_title(loc="left").startswith("sizes")
    assert any(list(line.get_xdata()) == [pytest.approx(200 / 3)] for line in kept.lines)
    save_figure(figure, tmp_path / "requests.png")
    assert matplotlib.image.imread(tmp_path / "requests.png").shape[1] >= 1000
