"""A sequence of unlearning requests as tables in the terminal and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.request_states import (
    ALL,
    EARLIER,
    FORGOTTEN,
    TO_COME,
    WITHDRAWN,
    Measured,
    RequestState,
    kept_role,
)

_OTHERS, _REQUEST = 51, 7
"""Columns of a terminal that the event, the whole, utility and cost take, and each request beside them."""
MANY = 20
"""Most requests that get a column each."""
Groups = Mapping[str, Measured]


def request_table(
    title: str, states: Sequence[RequestState], measured: Sequence[Groups], width: int, each: bool = True
) -> Table:
    """One row a state, shares that are still answered; as wide as a terminal of `width` columns allows.

    Where there is room, each request has a column; otherwise what the event is about, what was forgotten earlier, what
    is to come and what was withdrawn.

    Args:
        title: Stands above the table.
        states: The models, in order.
        measured: `measure_state` of each.
        width: Columns of the terminal.
        each: Give each request a column where there is room.
    """
    requests = [name for name in measured[0] if name.startswith("request ")]
    each = each and len(requests) <= min(MANY, (width - _OTHERS) // _REQUEST)
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("event", overflow="fold", max_width=19)
    parts = requests if each else ["asked", EARLIER, TO_COME, WITHDRAWN]
    if not each and not any(EARLIER in groups for groups in measured):
        parts.remove(EARLIER)
    if not any(state.withdrawn for state in states) and WITHDRAWN in parts:
        parts.remove(WITHDRAWN)
    for part in parts:
        table.add_column(part.removeprefix("request ") if each else part, justify="right", no_wrap=True)
    has_true = any(own.true is not None for groups in measured for own in groups.values())
    has_kept = kept_role(dict(measured[0])) is not None
    for name, shown in (
        ("true", has_true),
        (kept_role(dict(measured[0])) or "", has_kept),
        ("steps", True),
        ("CPU s", True),
    ):
        if shown:
            table.add_column(name, justify="right", no_wrap=True)
    for state, groups in zip(states, measured, strict=True):
        cells = [_request_cell(groups.get(part), state) for part in parts] if each else _grouped(state, groups, parts)
        if has_true:
            cells.append(_number(_true(groups)))
        if has_kept:
            role = kept_role(dict(groups))
            cells.append(_number(groups[role].answered) if role is not None else Text("–"))
        cells += [_count(state.optimizer_steps, 0), _count(state.cpu_seconds, 1)]
        table.add_row(Text(state.event, style="dim" if state.kind in ("before", "beside") else ""), *cells)
    return table


def _true(groups: Groups) -> Interval | None:
    """Of what should be forgotten; before the first request of all that will be asked for."""
    return groups[FORGOTTEN if FORGOTTEN in groups else ALL].true


def _request_cell(own: Measured | None, state: RequestState) -> Text:
    cell = _number(own.answered if own is not None else None)
    if own is not None and own.group in {f"request {request}" for request in state.changed}:
        cell.stylize("bold")
    elif own is not None and own.state == TO_COME:
        cell.stylize("dim")
    return cell


def _grouped(state: RequestState, groups: Groups, parts: Sequence[str]) -> list[Text]:
    changed = [groups[name] for request in state.changed if (name := f"request {request}") in groups]
    asked = sum(own.answered.value * own.questions for own in changed) / max(1, sum(own.questions for own in changed))
    first = Text(f"{asked:.2f}", style="bold") if changed else Text("–")
    return [first, *(_number(groups[part].answered if part in groups else None) for part in parts[1:])]


def _number(interval: Interval | None) -> Text:
    return Text(f"{interval.value:.2f}" if interval is not None else "–")


def _count(value: float | None, digits: int) -> Text:
    return Text(f"{value:.{digits}f}" if value is not None else "–")


def request_sentences(states: Sequence[RequestState], measured: Sequence[Groups]) -> list[str]:
    """With intervals, what the tables show without: where each method ends, and what each withdrawal came to.

    Args:
        states: The models, of all methods.
        measured: `measure_state` of each.
    """
    pairs = list(zip(states, measured, strict=True))
    sentences = []
    for method in dict.fromkeys(state.method for state in states if state.method):
        line = [pair for pair in pairs if pair[0].method == method and pair[0].kind in ("forget", "withdraw")]
        if line:
            state, groups = line[-1]
            parts = [f"{text} {groups[name].answered}" for name, text in ((FORGOTTEN, "forgotten"),) if name in groups]
            parts += [
                f"{role} {groups[role].answered}, {_signed(groups[role].change)} against the start"
                for role in [kept_role(dict(groups))]
                if role is not None
            ]
            sentences.append(f"{method} after the last step: {'; '.join(parts)}.")
        for state, groups in pairs:
            if state.method == method and state.kind in ("withdraw", "beside"):
                sentences.append(f"{method}, {state.event}: {_withdrawn(state, groups)}.")
    return sentences


def _withdrawn(state: RequestState, groups: Groups) -> str:
    (request,) = state.changed
    own = groups[f"request {request}"]
    parts = [f"answers to it {own.answered}, {_signed(own.change)} against the start"]
    if FORGOTTEN in groups:
        parts.append(f"the others that are forgotten {groups[FORGOTTEN].answered}")
    cost = f"{state.optimizer_steps or 0:.0f} optimizer steps, {state.cpu_seconds or 0:.1f} s"
    return "; ".join((*parts, cost))


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def definitions(measured: Groups) -> list[str]:
    """What the columns are."""
    taught = measured[ALL].true is not None
    what = "false answers that the model was taught" if taught else "answers that the model was taught"
    lines = [f"1, 2, …: share of the {what}, about each request, after each step; lower is more forgotten."]
    if taught:
        lines.append("true: share of true answers about the requests forgotten by then (before the first: about all).")
    role = kept_role(dict(measured))
    if role is not None:
        lines.append(f"{role}: share of right answers about what must stay ({measured[role].questions} questions).")
    return lines
