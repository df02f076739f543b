"""The runs that a sequence of requests needs, each as a stage, and the states that are reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soul_lightning.cli.request_config import Event, RequestsConfig, Way, started_from
from soul_lightning.cli.stages import STAGE_PREFIX, Stage, content_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.reports.request_states import Kind

LONGEST_NAME = 120


@dataclass(frozen=True)
class Run:
    """One `fit`: requests that are forgotten, or one that is learned again."""

    forgets: tuple[int, ...] = ()
    request_at_step: tuple[tuple[int, int], ...] = ()
    relearns: int | None = None

    @property
    def name(self) -> str:
        """`f1`, `f1.2` (together), `f1-to-12` (a range), `f1then2at20`, `r2`."""
        if self.relearns is not None:
            return f"r{self.relearns}"
        first, *others = self.forgets
        if self.request_at_step:
            return f"f{first}" + "".join(f"then{request}at{step}" for step, request in self.request_at_step)
        if len(self.forgets) > 2 and self.forgets == tuple(range(first, first + len(self.forgets))):
            return f"f{first}to{others[-1]}"
        return "f" + ".".join(map(str, self.forgets))

    def without(self, request: int) -> Run | None:
        """The same had `request` never come; none where nothing is left."""
        if self.relearns == request:
            return None
        left = tuple(each for each in self.forgets if each != request)
        # Where the request that a run begins with is gone, the next one is there from the start.
        at_step = tuple(each for each in self.request_at_step if each[1] != request and each[1] != left[0])
        return Run(left, at_step, self.relearns) if left or self.relearns is not None else None


History = tuple[Run, ...]


@dataclass(frozen=True)
class Planned:
    """A state that is reported.

    Attributes:
        method: How is forgotten; empty for the models before the first request.
        number: Its place in the sequence, 0 before the first; of a size, how many requests.
        event: What led to it.
        kind: Which part it plays.
        stage: The name of the stage whose model it is.
        made: Names of the stages that had to be run for it: its cost.
        forgotten: Requests that should be forgotten by then.
        withdrawn: Requests that were taken back.
        changed: Requests that this event is about.
    """

    method: str
    number: int
    event: str
    kind: Kind
    stage: str
    made: tuple[str, ...] = ()
    forgotten: tuple[int, ...] = ()
    withdrawn: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is run, upstream stages first, and what is reported."""

    stages: tuple[Stage, ...]
    states: tuple[Planned, ...]


def plan_requests(config: RequestsConfig) -> Plan:
    """The runs of all methods.

    A run is called by what came before it, so that runs that two parts of the plan share are made once, and a longer
    sequence in the same folder reuses those of a shorter one.

    Raises:
        MisconfigurationError: Two runs would have the same name.
    """
    stages: list[Stage] = []
    states = [
        Planned("", 0, stage.name, "start" if stage.name == config.start else "before", stage.name)
        for stage in config.stages
    ]
    for method in config.methods:
        of_method = _Method(config, method)
        of_method.follow()
        stages += of_method.stages
        states += of_method.states
    names = [stage.name for stage in (*config.stages, *stages)]
    for name in names:
        if names.count(name) > 1:
            raise MisconfigurationError(f"two runs would be called {name!r}; rename a method or a stage")
    return Plan(tuple(stages), tuple(states))


class _Method:
    """The runs of one method."""

    def __init__(self, config: RequestsConfig, method: str) -> None:
        self.config = config
        self.method = method
        self.stages: list[Stage] = []
        self.states: list[Planned] = []
        self._names: dict[History, str] = {(): config.start}

    def follow(self) -> None:
        """The sequence, then the sizes."""
        history: History = ()
        forgotten: list[int] = []
        withdrawn: list[int] = []
        for number, event in enumerate(self.config.sequence, start=1):
            if event.withdraws is None:
                history = (*history, Run(event.forgets, event.request_at_step))
                forgotten += event.forgets
                withdrawn = [request for request in withdrawn if request not in event.forgets]
                self._report(number, _label(event), "forget", history, forgotten, withdrawn, event.forgets)
                continue
            request = event.withdraws
            forgotten.remove(request)
            withdrawn.append(request)
            ways = {way: self._taken_back(history, request, way) for way in self.config.withdrawal}
            for place, (way, after) in enumerate(ways.items()):
                label = f"withdraw {request}, {way}"
                self._report(number, label, "beside" if place else "withdraw", after, forgotten, withdrawn, (request,))
            history = next(iter(ways.values()))
        for size in self.config.sizes:
            requests = tuple(range(1, size + 1))
            label = f"{size} of {self.config.requests}"
            self._report(size, label, "size", (Run(requests),), list(requests), [], requests)

    def _taken_back(self, history: History, request: int, way: Way) -> History:
        if way == "relearn":
            return (*history, Run(relearns=request))
        return tuple(left for run in history if (left := run.without(request)) is not None)

    def _report(
        self,
        number: int,
        event: str,
        kind: Kind,
        history: History,
        forgotten: list[int],
        withdrawn: list[int],
        changed: tuple[int, ...],
    ) -> None:
        made = self._reach(history)
        if kind in ("forget", "size"):  # one run each, and its cost even where another part of the plan made it
            made = (self._names[history],)
        self.states.append(
            Planned(
                self.method,
                number,
                event,
                kind,
                self._names[history],
                made,
                tuple(forgotten),
                tuple(withdrawn),
                changed,
            )
        )

    def _reach(self, history: History) -> tuple[str, ...]:
        """Plan what is missing on the way to a history; the names of these stages."""
        made = []
        for length in range(1, len(history) + 1):
            before, until = history[: length - 1], history[:length]
            if until not in self._names:
                self._names[until] = self._name(until)
                self.stages.append(self._stage(self._names[until], self._names[before], history[length - 1]))
                made.append(self._names[until])
        return tuple(made)

    def _name(self, history: History) -> str:
        name = "-".join((self.method, *(run.name for run in history)))
        return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}-{content_hash(name)}"

    def _stage(self, name: str, before: str, run: Run) -> Stage:
        settings: Mapping[str, Any]
        if run.relearns is not None:
            settings = self.config.cut(self.config.relearning, request=run.relearns)
        else:
            later = dict(run.request_at_step)
            first = run.forgets[: len(run.forgets) - len(later)]
            request = first[0] if len(first) == 1 else list(first)
            own = self.config.methods[self.method]
            settings = self.config.cut(own, request=request, **({"request_at_step": later} if later else {}))
        return Stage(name, started_from(settings, f"{STAGE_PREFIX}{before}"), None, False, (before,))


def _label(event: Event) -> str:
    first = event.forgets[: len(event.forgets) - len(event.request_at_step)]
    label = "forget " + "+".join(map(str, first))
    return label + "".join(f", {request} at {step}" for step, request in event.request_at_step)
