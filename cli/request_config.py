"""The configuration of `requests`: the models before the first request, the methods, the sequence, the sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.stages import Stage, check_name, mapping, merged, parse_config
from soul_lightning.exceptions import MisconfigurationError

KEYS = (
    "seeds", "fit", "stages", "start", "methods", "requests", "sequence", "sizes", "withdrawal", "relearning",
    "restoration", "workers",
)  # fmt: skip
_OF_STAGES = ("seeds", "fit", "stages", "restoration")
_QUIET = {"logger": False, "enable_progress_bar": False}
_NETWORK = "pretrained_model_name_or_path"
Way = Literal["relearn", "redo"]
"""How a request is taken back: its text is learned again, or what came from its first step on is done without it."""
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Event:
    """What happens at one place of the sequence.

    Attributes:
        forgets: The requests that are forgotten, in one run.
        request_at_step: Those of them that take the place of the first one during the run, with their optimizer step.
        withdraws: The request that is taken back.
    """

    forgets: tuple[int, ...] = ()
    request_at_step: tuple[tuple[int, int], ...] = ()
    withdraws: int | None = None


@dataclass(frozen=True)
class RequestsConfig:
    """A whole `requests` configuration.

    Attributes:
        seeds: One run of everything each.
        fit: What all runs share; its DataModule is cut.
        stages: The models before the first request.
        start: The stage whose model gets the first request.
        methods: Settings of a `fit` that forgets, by name, on top of `fit`.
        requests: Into so many what is to be forgotten is cut.
        sequence: What happens, one after another.
        sizes: So many requests, from the first one on, are also forgotten at once, each in a run from the start.
        withdrawal: How a withdrawn request is taken back; the sequence goes on with the first way.
        relearning: Settings of the `fit` that learns a withdrawn request again, on top of `fit`.
        restoration: How answers are asked for and judged.
        workers: Processes, of one thread each; none runs everything in this process.
        raw: All of it as it was read.
    """

    seeds: tuple[int, ...]
    fit: Mapping[str, Any]
    stages: tuple[Stage, ...]
    start: str
    methods: Mapping[str, Mapping[str, Any]]
    requests: int
    sequence: tuple[Event, ...]
    sizes: tuple[int, ...]
    withdrawal: tuple[Way, ...]
    relearning: Mapping[str, Any]
    restoration: Mapping[str, Any]
    workers: int | None
    raw: Mapping[str, Any] = field(default_factory=dict)

    def cut(self, settings: Mapping[str, Any], *, request: int | list[int], **data: Any) -> dict[str, Any]:
        """A `fit` whose DataModule is cut into the requests.

        Args:
            settings: The `fit`.
            request: What of them is trained on.
            **data: Further settings of the DataModule.
        """
        return merged(settings, {"data": {"init_args": {"requests": self.requests, "request": request, **data}}})


def parse_requests(raw: Mapping[str, Any]) -> RequestsConfig:
    """Check a `requests` configuration and merge what its runs share.

    Raises:
        MisconfigurationError: A key is unknown, a request does not exist, is withdrawn before it came or forgotten
            twice, a method says where it starts from.
    """
    for key in raw:
        if key not in KEYS:
            raise MisconfigurationError(
                f"a requests recipe has no key {key!r}{nearest(str(key), KEYS)}; its keys are {', '.join(KEYS)}"
            )
    fit = mapping(raw.get("fit"), "fit")
    fit = {**fit, "trainer": _QUIET | dict(mapping(fit.get("trainer"), "fit.trainer"))}
    # `table` names two stages of restor's; here only the start has a part, and it may be the only one.
    stages = mapping(raw.get("stages"), "stages")
    names = list(stages)
    start = raw.get("start", names[-1] if names else None)
    if start not in names:
        raise MisconfigurationError(
            f"start is {start!r}, and there is no such stage{nearest(str(start), names)}; give stages the model that "
            f"gets the first request, as in stages: {{trained: {{pretrained: DIR}}}}"
        )
    table = {"clean": start, "corrupted": start, "baseline": None}
    base = parse_config({key: raw[key] for key in _OF_STAGES if key in raw} | {"fit": fit, "table": table})
    requests = _count(raw.get("requests"), "requests", least=2)
    data = mapping(fit["data"], "fit.data")
    for key in ("requests", "request", "request_at_step"):
        if key in mapping(data.get("init_args"), "fit.data.init_args"):
            raise MisconfigurationError(
                f"fit.data.init_args.{key} is set by this command; write requests: {requests} at the top instead"
            )
    methods = _methods(raw, fit)
    relearning = mapping(raw.get("relearning"), "relearning")
    sequence = _sequence(raw.get("sequence"), requests)
    sizes = _sizes(raw.get("sizes"), requests)
    if not sequence and not sizes:
        raise MisconfigurationError(
            "sequence and sizes are both empty; leave sequence out to forget all requests in turn"
        )
    workers = raw.get("workers")
    return RequestsConfig(
        seeds=base.seeds,
        fit=fit,
        stages=base.stages,
        start=str(start),
        methods=methods,
        requests=requests,
        sequence=sequence,
        sizes=sizes,
        withdrawal=_withdrawal(raw.get("withdrawal"), relearning),
        relearning=_from_a_request(merged(fit, relearning), "relearning") if relearning else {},
        restoration=base.restoration,
        workers=_count(workers, "workers", least=1) if workers is not None else None,
        raw=raw,
    )


def _count(value: Any, key: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise MisconfigurationError(f"{key} must be a whole number >= {least}, got {value!r}")
    return value


def _methods(raw: Mapping[str, Any], fit: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for name, own in mapping(raw.get("methods"), "methods").items():
        check_name(name, "a method")
        if own is not None:
            found[str(name)] = _from_a_request(merged(fit, mapping(own, f"methods.{name}")), f"methods.{name}")
    if not found:
        raise MisconfigurationError(
            "methods is empty; name at least one way to forget, as in methods: {npo: {model: …}}"
        )
    return found


def _from_a_request(settings: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """`settings`, after a look at whether the network can be that of the request before."""
    model = mapping(settings.get("model"), f"{where}.model")
    if not model.get("class_path"):
        raise MisconfigurationError(f"{where}.model.class_path is missing; name the module that trains")
    network = mapping(mapping(model.get("init_args"), f"{where}.model.init_args").get("network"), f"{where} network")
    if _NETWORK in network:
        raise MisconfigurationError(
            f"{where} starts from {network[_NETWORK]!r}, and each run of a sequence starts from the model of the one "
            f"before it; leave {_NETWORK} out"
        )
    return settings


def started_from(settings: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A `fit` whose network is that of `model`."""
    return merged(settings, {"model": {"init_args": {"network": {_NETWORK: model}}}})


def tokenizer_source(stage: Stage) -> str:
    """A model folder that has the tokenizer before the stage's own model exists."""
    return stage.pretrained or str(stage.config["model"]["init_args"]["network"][_NETWORK])


def _sequence(value: Any, requests: int) -> tuple[Event, ...]:
    if value is None:
        return tuple(Event(forgets=(request,)) for request in range(1, requests + 1))
    if not isinstance(value, list):
        raise MisconfigurationError(f"sequence must be a list of steps such as {{forget: 1}}, got {value!r}")
    events: list[Event] = []
    forgotten: set[int] = set()
    for place, step in enumerate(value, start=1):
        event = _event(step, f"step {place} of the sequence", requests)
        for request in event.forgets:
            if request in forgotten:
                raise MisconfigurationError(
                    f"step {place} of the sequence forgets request {request}, which is forgotten already; leave it out"
                )
            forgotten.add(request)
        if event.withdraws is not None and event.withdraws not in forgotten:
            raise MisconfigurationError(
                f"step {place} of the sequence withdraws request {event.withdraws}, which was not forgotten by then; "
                f"put it after the step that forgets it"
            )
        forgotten.discard(event.withdraws or 0)
        events.append(event)
    return tuple(events)


def _event(step: Any, where: str, requests: int) -> Event:
    known = ("forget", "withdraw", "request_at_step")
    given = step if isinstance(step, Mapping) else {}
    for key in given:
        if key not in known:
            raise MisconfigurationError(
                f"{where} has no key {key!r}{nearest(str(key), known)}; its keys are {', '.join(known)}"
            )
    if ("forget" in given) == ("withdraw" in given) or ("withdraw" in given and len(given) > 1):
        raise MisconfigurationError(
            f"{where} must be forget with a request (or several, as in [1, 2]) or withdraw with one, got {step!r}"
        )
    if "withdraw" in given:
        return Event(withdraws=_request(given["withdraw"], where, requests))
    first = given["forget"] if isinstance(given["forget"], list) else [given["forget"]]
    # An override has made texts of the numbers in front of a colon, as JSON has them.
    later = {
        int(when) if isinstance(when, str) and when.isdecimal() else when: request
        for when, request in mapping(given.get("request_at_step"), f"{where}: request_at_step").items()
    }
    if not first or (later and len(first) > 1):
        raise MisconfigurationError(
            f"{where} must begin with one request, or several without request_at_step, got {step!r}"
        )
    at_step = tuple(
        (_count(when, f"{where}: an optimizer step of request_at_step", least=1), _request(request, where, requests))
        for when, request in sorted(later.items())
    )
    forgets = tuple(_request(request, where, requests) for request in (*first, *(request for _, request in at_step)))
    if len(set(forgets)) < len(forgets):
        raise MisconfigurationError(f"{where} names a request twice, got {step!r}")
    return Event(forgets, at_step)


def _request(value: Any, where: str, requests: int) -> int:
    if type(value) is not int or not 1 <= value <= requests:
        raise MisconfigurationError(f"{where} names request {value!r}, and the requests are 1 to {requests}")
    return value


def _sizes(value: Any, requests: int) -> tuple[int, ...]:
    numbers = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(size) is not int or not 1 <= size <= requests for size in numbers) or numbers != sorted(set(numbers)):
        raise MisconfigurationError(
            f"sizes must be rising numbers of requests forgotten at once, from 1 to {requests}, got {value!r}; "
            f"raise requests for smaller parts"
        )
    return tuple(numbers)


def _withdrawal(value: Any, relearning: Mapping[str, Any]) -> tuple[Way, ...]:
    ways: Sequence[Any] = (
        value if isinstance(value, list) else [value if value else "relearn" if relearning else "redo"]
    )
    if not ways or any(way not in WAYS for way in ways) or len(set(ways)) < len(ways):
        raise MisconfigurationError(f"withdrawal must be {' or '.join(WAYS)}, or a list of both, got {value!r}")
    if "relearn" in ways and not relearning:
        raise MisconfigurationError(
            "withdrawal: relearn learns the withdrawn text again, and nothing says how; give relearning a model, such "
            "as FinetuningModule with streams: {forget: 1.0}"
        )
    return tuple(ways)
