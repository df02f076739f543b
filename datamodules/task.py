"""What a DataModule supplies, and how it is cut into requests that arrive one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from soul_lightning.datamodules.streamed_rows import StreamedRows
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe

FORGOTTEN_ROLES = ("forget", "corrupted")
"""Roles of probes about what is to be forgotten."""


@dataclass(frozen=True)
class Task:
    """What a DataModule supplies.

    Attributes:
        streams: Rows to train on, by stream name; the first is the leading one, whose pass is an epoch.
        probes: Sets to measure on.
        streamed: Further streams, by name, whose rows are read as they are needed.
        request_of: The request of each row of the forget stream, by its index, where it is cut into requests.
    """

    streams: Mapping[str, Sequence[Example]]
    probes: Sequence[Probe] = ()
    streamed: Mapping[str, StreamedRows] = field(default_factory=dict)
    request_of: Mapping[int, int] = field(default_factory=dict)


def split_into_requests(task: Task, requests: int, trained: Collection[int]) -> Task:
    """The task as it stands when the requests `trained`, usually one, have arrived.

    Requests are neighbouring subjects in the order of the forget stream, as equal in rows as whole subjects allow, or
    neighbouring rows where a row names no subject. The `forget` stream becomes the rows of these; retain stays. A probe
    about what is to be forgotten becomes its rows of these and all earlier requests, under its own name, and
    beside it each request's own rows as `name_1` … `name_n`, those not yet asked for included. Probe rows that belong
    to no request stay in the probe itself.

    Args:
        task: The whole task, with a stream `forget`.
        requests: How many requests, >= 2.
        trained: Those that are trained on, from 1.

    Raises:
        MisconfigurationError: There is nothing to forget, or there are fewer subjects (or rows) than requests.
    """
    if "forget" not in task.streams:
        raise MisconfigurationError(
            f"requests={requests} cuts the forget stream, and this task trains on {', '.join(task.streams)}; "
            f"leave requests out"
        )
    forget = task.streams["forget"]
    by_subject = all(row.subject for row in forget)
    keys: list[Hashable] = [row.subject if by_subject else row.index for row in forget]
    if len(set(keys)) < requests:
        what = "subjects" if by_subject else "rows"
        raise MisconfigurationError(
            f"requests={requests} is more than the {len(set(keys))} {what} to forget; take fewer requests"
        )
    number_of = _in_neighbouring_parts(Counter(keys), requests)
    asked = {row.index: row for row in forget}

    def number(row: Example) -> int | None:
        """The request that a probe's row belongs to, if it belongs to any."""
        if by_subject:
            return number_of.get(row.subject)
        twin = asked.get(row.index)  # of another set's rows only the number may be the same
        is_same = twin is not None and (twin.answer == row.answer or (row.prompt != "" and twin.prompt == row.prompt))
        return number_of[row.index] if is_same else None

    probes: list[Probe] = []
    for probe in task.probes:
        if probe.role not in FORGOTTEN_ROLES:
            probes.append(probe)
            continue
        numbered = [(number(row), row) for row in probe.examples]
        so_far = [row for part, row in numbered if part is None or part <= max(trained)]
        parts = [
            replace(
                probe,
                name=f"{probe.name}_{part}",
                examples=[row for found, row in numbered if found == part],
                rows_of=probe.name,
            )
            for part in range(1, requests + 1)
        ]
        probes.extend(part for part in (replace(probe, examples=so_far), *parts) if part.examples)
    own = {row.index: number_of[key] for key, row in zip(keys, forget, strict=True) if number_of[key] in trained}
    own_rows = [row for row in forget if row.index in own]
    return replace(task, streams={**task.streams, "forget": own_rows}, probes=probes, request_of=own)


def _in_neighbouring_parts(sizes: Mapping[Hashable, int], parts: int) -> dict[Hashable, int]:
    """The part, from 1, of each key: in order, each as near to its share of all rows as whole keys allow."""
    total, before, part = sum(sizes.values()), 0, 1
    found: dict[Hashable, int] = {}
    for place, (key, size) in enumerate(sizes.items()):
        belongs_further = (before + size / 2) / total * parts >= part
        last_chance = len(sizes) - place <= parts - part  # every later part must get a key
        if found and part < parts and (belongs_further or last_chance):
            part += 1
        found[key] = part
        before += size
    return found
