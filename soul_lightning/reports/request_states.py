"""What models know after each of several unlearning requests: of each request, and of what must stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Literal

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.reports.tables import Record
from soul_lightning.scoring.answers import AnswerRow

Kind = Literal["before", "start", "forget", "withdraw", "beside", "size"]
"""A model beside the sequence, the one that it starts from, after a request, after a withdrawal, after the same
withdrawal done another way, after requests that came at once."""
KEPT_ROLES = ("control", "utility", "retain")
"""Roles of what must stay, the one that training saw least of first."""
FORGOTTEN, TO_COME, WITHDRAWN = "forgotten", "to come", "withdrawn"
EARLIER = "earlier"
ALL = "all requests"
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class RequestState:
    """A model at one place of the sequence, and its answers.

    Attributes:
        method: How was forgotten; empty for the models before the first request.
        number: Its place in the sequence, 0 before the first; of a size, how many requests.
        event: What led to it.
        kind: Which part it plays.
        rows: Answers to the questions about every request (probes `…_1`, `…_2`, …) and about what must stay.
        forgotten: Requests that should be forgotten by then.
        withdrawn: Requests that were taken back.
        changed: Requests that the event is about.
        optimizer_steps: What it took, the mean over the seeds; none of a model that was there.
        cpu_seconds: The same in seconds of a processor.
    """

    method: str
    number: int
    event: str
    kind: Kind
    rows: Sequence[AnswerRow]
    forgotten: tuple[int, ...] = ()
    withdrawn: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    optimizer_steps: float | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Measured:
    """What one group of questions comes to.

    Attributes:
        group: `request 1`, …, the requests in one state together, or a role of what must stay.
        state: What should have become of it: `forgotten`, `to come`, `withdrawn` or `kept`.
        questions: How many, over all seeds.
        subjects: About how many subjects, the unit of resampling.
        answered: Share that is answered as the model that the sequence starts from was taught: for corrupted facts
            the false answers.
        true: Share of true answers, where the taught ones are false.
        change: `answered` minus that of the start, question by question.
    """

    group: str
    state: str
    questions: int
    subjects: int
    answered: Interval
    true: Interval | None
    change: Interval


def request_of(row: AnswerRow) -> int | None:
    """The request that a row asks about; none of what must stay."""
    return None if row.role in KEPT_ROLES else int(row.probe.rpartition("_")[2])


def measure_state(state: RequestState, start: Sequence[AnswerRow]) -> dict[str, Measured]:
    """Every group of a state's questions that has any.

    Args:
        state: The model's answers.
        start: The answers of the model that the sequence starts from, to the same questions.
    """
    before = {row.key: _answered(row) for row in start}
    requests = sorted({request for row in state.rows if (request := request_of(row)) is not None})
    in_state = {request: TO_COME for request in requests}
    in_state |= dict.fromkeys(state.withdrawn, WITHDRAWN) | dict.fromkeys(state.forgotten, FORGOTTEN)
    groups = {f"request {request}": (in_state[request], {request}) for request in requests}
    groups[ALL] = ("", set(requests))
    for name in (FORGOTTEN, TO_COME, WITHDRAWN):
        groups[name] = (name, {request for request in requests if in_state[request] == name})
    groups[EARLIER] = (FORGOTTEN, groups[FORGOTTEN][1] - set(state.changed))
    found = {}
    for group, (name, of_requests) in groups.items():
        rows = [row for row in state.rows if request_of(row) in of_requests]
        if rows:
            found[group] = _measured(group, name, rows, before)
    for role in KEPT_ROLES:
        rows = [row for row in state.rows if row.role == role]
        if rows:
            found[role] = _measured(role, "kept", rows, before)
    return found


def kept_role(measured: dict[str, Measured]) -> str | None:
    """The role that utility is read from: control people, else what was held out, else what was trained to stay."""
    return next((role for role in KEPT_ROLES if role in measured), None)


def _answered(row: AnswerRow) -> float:
    return float(row.false if row.role == "corrupted" else row.true)


def _measured(group: str, state: str, rows: Sequence[AnswerRow], before: dict[tuple[int, str, int], float]) -> Measured:
    # A row that names no subject stands for itself.
    subjects = [(row.seed, row.subject or f"{row.probe} {row.index}") for row in rows]
    answered = [_answered(row) for row in rows]
    corrupted = all(row.role == "corrupted" for row in rows)
    return Measured(
        group=group,
        state=state,
        questions=len(rows),
        subjects=len(set(subjects)),
        answered=mean_interval(answered, subjects, is_share=True),
        true=mean_interval([float(row.true) for row in rows], subjects, is_share=True) if corrupted else None,
        change=mean_interval([own - before[row.key] for own, row in zip(answered, rows, strict=True)], subjects),
    )


def request_records(states: Sequence[RequestState], measured: Sequence[dict[str, Measured]]) -> list[Record]:
    """One flat record a state and group, with every interval.

    Args:
        states: The models.
        measured: `measure_state` of each.
    """
    records: list[Record] = []
    for state, groups in zip(states, measured, strict=True):
        for own in groups.values():
            record: Record = {
                "method": state.method,
                "kind": state.kind,
                "number": state.number,
                "event": state.event,
                "group": own.group,
                "state": own.state,
                "questions": own.questions,
                "subjects": own.subjects,
            }
            for name, interval in (("answered", own.answered), ("true", own.true), ("change", own.change)):
                ends = astuple(interval) if interval is not None else (None, None, None)
                record |= dict(zip((name + end for end in _ENDS), ends, strict=True))
            record |= {"optimizer_steps": state.optimizer_steps, "cpu_seconds": state.cpu_seconds}
            records.append(record)
    return records
