"""A sequence of unlearning requests as a figure: what is still answered of each, and below it what must stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.reports.grid_figure import BESIDE, COLOURS, MARKERS
from soul_lightning.reports.request_states import FORGOTTEN, KEPT_ROLES, TO_COME, Measured, RequestState

Groups = Mapping[str, Measured]
Pair = tuple[RequestState, Groups]
_LIGHTEST = 0.85
"""How far into the colour map the last request goes: its end is too light on white."""


def request_figure(states: Sequence[RequestState], measured: Sequence[Groups]) -> Figure:
    """Above: the share still answered, a line a request; below: utility. A column a method, and one for sizes.

    Vertical lines stand where a request arrives (dotted) or is withdrawn (dashed). A hollow point is the same
    withdrawal done another way.

    Args:
        states: The models, of all methods.
        measured: `measure_state` of each.

    Returns:
        A figure that belongs to no window and need not be closed.
    """
    pairs = list(zip(states, measured, strict=True))
    start = next(pair for pair in pairs if pair[0].kind == "start")
    methods = list(dict.fromkeys(state.method for state in states if state.method))
    sequences = {
        method: [
            pair for pair in pairs if pair[0].method == method and pair[0].kind in ("forget", "withdraw", "beside")
        ]
        for method in methods
    }
    sizes = {
        method: [pair for pair in pairs if pair[0].method == method and pair[0].kind == "size"] for method in methods
    }
    shown = [method for method in methods if sequences[method]]
    columns = len(shown) + any(sizes.values())
    longest = max((len(own) for own in sequences.values()), default=0)
    figure = Figure(figsize=(max(5.2, 0.55 * longest + 2) * columns, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, columns, squeeze=False, height_ratios=[3, 2], sharex="col", sharey="row")
    for column, method in enumerate(shown):
        _sequence(axes[0][column], axes[1][column], start, sequences[method])
        axes[0][column].set_title(method, loc="left", fontsize="medium", pad=26)
    if any(sizes.values()):
        _sizes(axes[0][-1], axes[1][-1], sizes)
    _legend(figure, start[1], next((state for state in states if state.kind == "beside"), None))
    taught = next(iter(start[1].values())).true is not None
    axes[0][0].set_ylabel("still answered falsely, share" if taught else "still answered, share")
    axes[1][0].set_ylabel("what must stay, share right")
    for axis in axes.flat:
        axis.set_ylim(-0.03, 1.03)
        axis.grid(axis="y", color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelleft=True)
    return figure


def _legend(figure: Figure, groups: Groups, beside: RequestState | None) -> None:
    """The requests once, below all columns, and what a hollow point is."""
    requests = [name for name in groups if name.startswith("request ")]
    handles = [
        Line2D([], [], color=_colour(number, len(requests)), marker="o", markersize=5, label=name)
        for number, name in enumerate(requests)
    ]
    if beside is not None:
        hollow = {"color": BESIDE, "marker": "o", "markersize": 5, "markerfacecolor": "white", "linestyle": ""}
        handles.append(Line2D([], [], **hollow, label=f"withdrawn by {beside.event.rpartition(' ')[2]} instead"))
    columns = max(1, int(figure.get_figwidth() // 1.4))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")


def _colour(number: int, requests: int) -> tuple[float, float, float, float]:
    return colormaps["viridis"](_LIGHTEST * number / max(1, requests - 1))


def _sequence(above: Axes, below: Axes, start: Pair, own: Sequence[Pair]) -> None:
    line = [start, *(pair for pair in own if pair[0].kind != "beside")]
    requests = [name for name in start[1] if name.startswith("request ")]
    for number, request in enumerate(requests):
        colour = _colour(number, len(requests))
        shift = 0.06 * (number - (len(requests) - 1) / 2)
        _line(above, line, request, colour, "", shift)
        for state, groups in own:
            if state.kind == "beside" and f"request {state.changed[0]}" == request:
                _points(above, [(state.number + shift + 0.25, groups[request].answered)], colour, "none", "")
    for number, role in enumerate(role for role in KEPT_ROLES if role in start[1]):
        _line(below, line, role, COLOURS[number], role, 0.0, MARKERS[number])
        for state, groups in own:
            if state.kind == "beside":
                _points(
                    below, [(state.number + 0.25, groups[role].answered)], COLOURS[number], "none", "", MARKERS[number]
                )
    for state, _ in line[1:]:
        style = ":" if state.kind == "forget" else "--"
        for axis in (above, below):
            axis.axvline(state.number - 0.5, color=BESIDE, linestyle=style, linewidth=1, zorder=0)
        above.annotate(
            state.event.replace(", ", "\n"), (state.number - 0.45, 1.0), xycoords=("data", "axes fraction"),
            color="0.3", fontsize="small", va="bottom",
        )  # fmt: skip
    numbers = [state.number for state, _ in line]
    below.set_xticks(numbers, ["start", *map(str, numbers[1:])])
    below.set_xlabel("step of the sequence")
    if below.lines:
        below.legend(fontsize="small", frameon=False, ncols=3, loc="lower left")


def _sizes(above: Axes, below: Axes, sizes: Mapping[str, Sequence[Pair]]) -> None:
    for number, (method, own) in enumerate(sizes.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for group, face in ((FORGOTTEN, colour), (TO_COME, "white")):
            places = [(_percent(state, groups), groups[group].answered) for state, groups in own if group in groups]
            label = f"{method}, {'asked' if group == FORGOTTEN else 'not asked'}"
            _points(above, places, colour, face, label, marker, "-" if group == FORGOTTEN else "--")
        for role in [role for role in KEPT_ROLES if own and role in own[0][1]][:1]:
            places = [(_percent(state, groups), groups[role].answered) for state, groups in own]
            _points(below, places, colour, colour, f"{method}, {role}", marker, "-")
    above.set_title("sizes: all at once, each from the start", loc="left", fontsize="medium", pad=26)
    below.set_xlabel("share of what there is to forget, %")
    for axis in (above, below):
        if axis.lines:
            axis.legend(fontsize="small", frameon=False, loc="best")


def _percent(state: RequestState, groups: Groups) -> float:
    return 100 * state.number / sum(name.startswith("request ") for name in groups)


def _line(
    axis: Axes, line: Sequence[Pair], group: str, colour: object, label: str, shift: float, marker: str = "o"
) -> None:
    places = [(state.number + shift, groups[group].answered) for state, groups in line if group in groups]
    _points(axis, places, colour, colour, label, marker, "-")


def _points(
    axis: Axes,
    places: Sequence[tuple[float, Interval]],
    colour: object,
    face: object,
    label: str,
    marker: str = "o",
    style: str = "",
) -> None:
    values = [interval.value for _, interval in places]
    # An interval of percentiles need not hold the number itself, and matplotlib wants lengths.
    below = [max(0.0, interval.value - interval.low) for _, interval in places]
    above = [max(0.0, interval.high - interval.value) for _, interval in places]
    axis.errorbar(
        [place for place, _ in places], values, yerr=[below, above], color=colour, marker=marker, markersize=5,
        markerfacecolor=face, linestyle=style, linewidth=1.4, elinewidth=0.7, label=label or "_", alpha=0.9,
    )  # fmt: skip
