"""What a dashboard shows of the numbers that a run logs: which share a chart, and which sum a run up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from soul_lightning.reports.evaluation import HIGH, LOW

Section = Literal["Forget against retain", "Restoration", "Logits", "Privacy", "Utility", "Curvature"]
SECTIONS: tuple[Section, ...] = get_args(Section)
"""In the order of the dashboard."""
Layout = dict[str, dict[str, tuple[str, list[str]]]]
"""Sections, their charts by title, and of each its kind with the numbers that it draws: as torch writes a layout."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A number of a group over the run, with its interval where there is one, beside that of other models.

    TensorBoard draws all numbers of a run in one colour, so that each has a chart of its own.

    Attributes:
        section: Where it stands.
        title: What is seen, with what the ends of the axis mean; `{}` is what the `*` of `metric` stands for.
        metric: Its name without the group. `*` stands for anything but a slash: `*_auc` makes a chart of each attack.
    """

    section: Section
    title: str
    metric: str


@dataclass(frozen=True, slots=True)
class Headline:
    """A number that sums a run up, for the table that compares runs and for the trade-off.

    Attributes:
        metric: Name without the group; of several that a `*` stands for the first that is measured.
        label: What it is called, without a group; the metric's own name, in words, if none is given.
        axis: Whether it says how much is forgotten, or how much is kept.
        reading: How it is read on that axis: «0: no false answer is left».
    """

    metric: str
    label: str = ""
    axis: Literal["forgotten", "kept"] | None = None
    reading: str = ""

    def find(self, group: str, names: Iterable[str]) -> str | None:
        """The name of the number among `names`; none where it was not measured."""
        return next(iter(matching(group, self.metric, names)), None)

    def called(self, group: str, name: str) -> str:
        """What the number `name` of `group` is called."""
        return self.label or name.removeprefix(f"{group}/").replace("_", " ")


TRAINING: tuple[tuple[str, Chart], ...] = (
    ("train", Chart("Forget against retain", "{} loss", "*_loss")),
    *(
        ("curvature", Chart("Curvature", f"{said}{of}", f"{place}{name}"))
        for place, of in (("", ""), ("*/", ", {}"))
        for name, said in (
            ("win_rate", "win rate (share not clipped; healthy: 0.1 to 0.5)"),
            ("norm", "norm of the curvature"),
            ("sum_ratio", "curvature by a fresh estimate (1: they agree)"),
        )
    ),
    ("curvature", Chart("Curvature", "share of the time that refreshes take", "refresh_time_share")),
)
"""Of what modules and `CurvatureMonitor` log, by group."""


def matching(group: str, pattern: str, names: Iterable[str]) -> dict[str, str]:
    """Those of `names` that a pattern of a group stands for, in their order, and what its `*` stands for in each."""
    whole = re.compile(re.escape(f"{group}/{pattern}").replace(r"\*", "([^/]*)"))
    return {name: " ".join(found.groups()) for name in names if (found := whole.fullmatch(name))}


def chart_layout(charts: Iterable[tuple[str, Chart]], names: Iterable[str]) -> Layout:
    """Arrange what was logged; there is no chart without anything to draw.

    Args:
        charts: Each with its group. Of two with one title in a section the second is named after its group, too.
        names: All that was logged.

    Returns:
        Sections in the order of `SECTIONS`. A line is a regular expression that matches one name; with an interval
        (`…_low` and `…_high`) it is three names.
    """
    names = list(names)
    layout: Layout = {section: {} for section in SECTIONS}
    for group, chart in charts:
        section = layout[chart.section]
        for name, star in matching(group, chart.metric, names).items():
            title = chart.title.format(star.replace("_", " "))
            ends = [f"{name}{end}" for end in ("", LOW, HIGH)]
            lines = ("Margin", ends) if set(ends) <= set(names) else ("Multiline", [f"^{re.escape(name)}$"])
            section[title if title not in section else f"{group}: {title}"] = lines
    return {section: found for section, found in layout.items() if found}


def final_numbers(headlines: Iterable[tuple[str, Headline]], metrics: Mapping[str, float | None]) -> dict[str, float]:
    """What a run ends with, by the headlines' labels; where two have one label, the second has its group before it.

    Args:
        headlines: Each with its group.
        metrics: The last numbers; none where one has no meaning.
    """
    known = {name: value for name, value in metrics.items() if value is not None}
    final: dict[str, float] = {}
    for group, headline in headlines:
        name = headline.find(group, known)
        if name is not None:
            label = headline.called(group, name)
            final[label if label not in final else f"{group} {label}"] = known[name]
    return final
