"""Objectives × optimizers: the comparison of a grid of runs, and its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace

from rich import box
from rich.table import Table
from rich.text import Text

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.restoration import RestorationComparison, compare_restoration
from soul_lightning.metrics.restoration_draws import ModelScores
from soul_lightning.reports.tables import Record, restoration_records, restoration_sentences
from soul_lightning.scoring.answers import AnswerRow

SIGNIFICANT_DIGITS = 3
EDGE, CLOSE = "*", "†"
"""Behind a learning rate at the edge of its grid, and behind one whose runner-up is within one fact."""
WIDTH = 80
"""Columns of a terminal that the table fits into."""
DEFINITIONS = (
    "true: share of the questions about corrupted people that are answered with the original fact",
    "false: share of the same questions that are answered with the false fact which corruption taught",
    "control: share of true answers about people whom corruption left alone",
    "restoration: (true − true of the corrupted model) / (true of the clean model − true of the corrupted model)",
)
_COLUMNS = ("objective", "optimizer", "rate", "true", "false", "control", "restoration")
_FRAME = len(_COLUMNS) + 1
"""Columns of a terminal that the table takes beside its texts."""
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class TunedPair:
    """An objective with an optimizer, at the learning rate that was chosen for it.

    Attributes:
        objective: The objective's name.
        optimizer: The optimizer's name.
        rate: The chosen learning rate.
        is_at_edge: Whether it is the lowest or the highest that was tried, so that a better one may lie beyond.
        rates_tried: How many were.
        is_close_call: Whether the second-best rate was within one fact of it.
        diverged_seeds: Reported seeds on which its run diverged; with any, the pair has no numbers.
        training_rows: Rows that the loss of one run read, the mean over the seeds; none where nobody counted.
        curvature_passes: Passes of the curvature estimator in one run, the mean over the seeds; none without one.
    """

    objective: str
    optimizer: str
    rate: float
    is_at_edge: bool
    rates_tried: int
    is_close_call: bool = False
    diverged_seeds: int = 0
    training_rows: float | None = None
    curvature_passes: float | None = None

    @property
    def rate_text(self) -> str:
        """`1e-4`, or `1e-4*` at the edge."""
        return rate_text(self.rate) + (EDGE if self.is_at_edge else "")


@dataclass(frozen=True)
class GridComparison:
    """Every pair and the models beside them, on the same questions and the same draws.

    Attributes:
        pairs: What was tuned, by model name.
        per_objective: The comparison of each objective's pairs, with the models beside them; its baseline is the
            objective's pair with the baseline optimizer.
        per_optimizer: The comparison of each optimizer's pairs with its pair of the control objective; empty without
            a control objective.
    """

    pairs: Mapping[str, TunedPair]
    per_objective: Mapping[str, RestorationComparison]
    per_optimizer: Mapping[str, RestorationComparison] = field(default_factory=dict)

    @property
    def first(self) -> RestorationComparison:
        """Any of the comparisons: for what is the same in all."""
        return next(iter(self.per_objective.values()))

    @property
    def scores(self) -> dict[str, ModelScores]:
        """By model, the models beside the pairs first; a pair that diverged has none."""
        return {name: own for each in self.per_objective.values() for name, own in each.scores.items()}

    @property
    def models(self) -> list[str]:
        """Every row of a table: the models beside the pairs, then the pairs, those that diverged included."""
        return [name for name in self.scores if name not in self.pairs] + list(self.pairs)


def compare_grid(
    rows: Mapping[str, Sequence[AnswerRow]],
    pairs: Mapping[str, TunedPair],
    baseline: str,
    *,
    clean: str = "clean",
    corrupted: str = "corrupted",
    control_objective: str | None = None,
) -> GridComparison:
    """Compare every pair with the one of the same objective and the baseline optimizer.

    Args:
        rows: Each model's answers over all seeds: those of the pairs, and of any models to be seen beside them. A pair
            without rows diverged.
        pairs: The pairs, by model name.
        baseline: Name of an optimizer.
        clean: Name of the model before corruption.
        corrupted: Name of the model before unlearning.
        control_objective: Name of an objective, with which the others are compared under the same optimizer.

    Raises:
        MisconfigurationError: The models answered different questions.
    """

    def compare(own: set[str], other: str | None) -> RestorationComparison:
        """The models beside the pairs, and `own` pairs minus the `other`."""
        answers = {name: each for name, each in rows.items() if name not in pairs or name in own}
        comparison = compare_restoration(answers, clean=clean, corrupted=corrupted, baseline=other)
        differences = {name: difference for name, difference in comparison.differences.items() if name in own}
        return replace(comparison, differences=differences)

    per_objective, per_optimizer = {}, {}
    for objective in dict.fromkeys(pair.objective for pair in pairs.values()):
        named = {pair.optimizer: name for name, pair in pairs.items() if pair.objective == objective}
        per_objective[objective] = compare(set(named.values()), named.get(baseline))
    for optimizer in dict.fromkeys(pair.optimizer for pair in pairs.values() if control_objective is not None):
        named = {pair.objective: name for name, pair in pairs.items() if pair.optimizer == optimizer}
        per_optimizer[optimizer] = compare(set(named.values()), named.get(str(control_objective)))
    return GridComparison(pairs, per_objective, per_optimizer)


def rate_text(rate: float) -> str:
    """`1e-4`, `3.16e-5`: the shortest form, for tables and folders."""
    digits, exponent = f"{rate:.{SIGNIFICANT_DIGITS - 1}e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def grid_records(grid: GridComparison) -> list[Record]:
    """One flat record a model, with every interval and the differences to its baseline and to the control objective.

    What has no meaning is none: numbers of a pair that diverged, ends of an interval without draws.
    """
    records: dict[str, Record] = {}
    for comparison in grid.per_objective.values():
        for record in restoration_records(comparison):
            records.setdefault(str(record["model"]), record)
    columns = dict.fromkeys(name for record in records.values() for name in record)
    for name in ("model", "baseline"):
        columns.pop(name, None)
    rows = []
    for name in grid.models:
        pair, own = grid.pairs.get(name), records.get(name, {})
        rows.append(
            {"model": name}
            | _tuned_record(pair)
            | {column: _number(own.get(column)) for column in columns}
            | _control_record(grid, name)
            | {"baseline": own.get("baseline") if pair else None}
        )
    return rows


def _tuned_record(pair: TunedPair | None) -> Record:
    return {
        "objective": pair.objective if pair else None,
        "optimizer": pair.optimizer if pair else None,
        "learning_rate": pair.rate if pair else None,
        "at_edge": str(pair.is_at_edge).lower() if pair else None,
        "rates_tried": pair.rates_tried if pair else None,
        "runner_up_within_one_fact": str(pair.is_close_call).lower() if pair else None,
        "diverged_seeds": pair.diverged_seeds if pair else None,
        "training_rows": pair.training_rows if pair else None,
        "curvature_passes": pair.curvature_passes if pair else None,
    }


def _control_record(grid: GridComparison, name: str) -> Record:
    """The differences to the control objective under the same optimizer; no columns without such an objective."""
    if not grid.per_optimizer:
        return {}
    pair = grid.pairs.get(name)
    difference = grid.per_optimizer[pair.optimizer].differences.get(name) if pair else None
    intervals = {
        "false_share_minus_control_objective": difference.false_share if difference else None,
        "restoration_minus_control_objective": difference.restoration if difference else None,
        "accuracy_control_minus_control_objective": difference.accuracy_control if difference else None,
    }
    return {
        f"{column}{end}": _number(value)
        for column, interval in intervals.items()
        for end, value in zip(_ENDS, astuple(interval) if interval else (None,) * len(_ENDS), strict=True)
    }


def _number(value: str | float | None) -> str | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def grid_table(grid: GridComparison) -> Table:
    """One row a model: learning rate, true and false answers, control people, restoration; 80 columns wide.

    Where names are long, restoration is shown without its interval; where that is not enough, names end in `…`.
    """
    rows = [_cells(grid, name, short=True) for name in grid.models]
    widths = _widths(rows)
    if sum(widths) > WIDTH - _FRAME:
        rows = [[*cells[:-1], cells[-1].split(" [")[0]] for cells in rows]
        widths = _widths(rows)
    room = WIDTH - _FRAME - sum(widths[2:])
    if sum(widths[:2]) > room:
        widths[:2] = [min(width, room // 2) for width in widths[:2]]
    table = Table(
        title="Objectives × optimizers", caption=_caption(grid), title_justify="left", box=box.SIMPLE_HEAD, padding=0
    )
    for name, width in zip(_COLUMNS, widths, strict=True):
        is_name = name in _COLUMNS[:2]
        table.add_column(name, no_wrap=True, width=width, justify="left" if is_name else "right", overflow="ellipsis")
    before: str | None = None
    for name, cells in zip(grid.models, rows, strict=True):
        if name in grid.pairs and cells[0] != before:
            table.add_section()
        table.add_row(*map(Text, cells))
        before = cells[0]
    return table


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The longest text of each column."""
    return [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]


def grid_markdown(grid: GridComparison, title: str, paragraphs: Sequence[str]) -> str:
    """The table with every interval, what its columns are, how it came about, and the paired differences, as Markdown.

    Args:
        grid: The comparison.
        title: The heading.
        paragraphs: What a reader has to know: how rates were chosen, what a run is.
    """
    lines = [f"# {title}", "", "| objective | optimizer | learning rate | true | false | control | restoration |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in grid.models:
        cells = _cells(grid, name, short=False)
        pair = grid.pairs.get(name)
        cells[2] += CLOSE if pair is not None and pair.is_close_call else ""
        lines.append("| " + " | ".join(cells) + " |")
    close = any(pair.is_close_call for pair in grid.pairs.values())
    mark = f"; {CLOSE} the second-best rate was within one fact of it on the tuning seeds" if close else ""
    lines += ["", f"{_caption(grid)}{mark}.", ""]
    lines += [*(f"- {definition}" for definition in DEFINITIONS), ""]
    for paragraph in paragraphs:
        lines += [paragraph, ""]
    lists = {
        "Paired differences between optimizers, on the same draws of people:": grid.per_objective,
        "Paired differences to the control objective, on the same draws of people:": grid.per_optimizer,
    }
    for note in dict.fromkeys(each.note for each in grid.per_objective.values() if each.note):
        lines += [note, ""]
    for heading, comparisons in lists.items():
        sentences = _sentences(comparisons)
        if sentences:
            lines += [heading, "", *(f"- {sentence}" for sentence in sentences), ""]
    return "\n".join(lines).rstrip() + "\n"


def grid_sentences(grid: GridComparison) -> list[str]:
    """Why there is no restoration; each pair against the baseline optimizer, and against the control objective."""
    notes = dict.fromkeys(each.note for each in grid.per_objective.values() if each.note)
    return [*notes, *_sentences(grid.per_objective), *_sentences(grid.per_optimizer)]


def _sentences(comparisons: Mapping[str, RestorationComparison]) -> list[str]:
    """The differences in words."""
    return [sentence for each in comparisons.values() for sentence in restoration_sentences(replace(each, note=""))]


def _caption(grid: GridComparison) -> str:
    first = grid.first
    control = f"{first.control_facts} control facts" if first.control_facts else "no control facts"
    runs = f", {first.seeds} seeds" if first.seeds > 1 else ""
    edge = f"; {EDGE} at the edge of its grid" if any(pair.is_at_edge for pair in grid.pairs.values()) else ""
    return (
        f"{first.facts} facts of {first.entities} corrupted people, {control}{runs}; "
        f"{100 * first.confidence:g} % intervals{edge}"
    )


def _cells(grid: GridComparison, name: str, *, short: bool) -> list[str]:
    pair, scores = grid.pairs.get(name), grid.scores.get(name)
    names = [pair.objective if pair else name, pair.optimizer if pair else "", pair.rate_text if pair else ""]
    if scores is None:
        assert pair is not None
        of = f"{pair.diverged_seeds}/{grid.first.seeds}" if short else f"{pair.diverged_seeds} of {grid.first.seeds}"
        return [*names, "–", "–", "–", f"diverged on {of}" + ("" if short else " seeds")]
    shares = (scores.accuracy_corrupted, scores.false_share, scores.accuracy_control)
    return [*names, *(_text(share, short) for share in shares), _text(scores.restoration, False)]


def _text(interval: Interval | None, short: bool) -> str:
    if interval is None:
        return "–"
    return f"{interval.value:.2f}" if short else str(interval)
