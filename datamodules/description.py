"""What a DataModule holds: rows, tokens, what is cut, what stands there twice, and a row as it is encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from soul_lightning.datamodules.overlap import Overlap
from soul_lightning.datamodules.task import Task
from soul_lightning.encoding import EncodedExample, encode_labelled
from soul_lightning.protocols import Example
from soul_lightning.templates import PromptTemplate

AS_IT_BEGINS = ", as it begins"
"""Follows the name of a streamed source's stream, of which only the first rows are described."""


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """One training stream.

    Attributes:
        name: The stream.
        rows: Rows that are trained on, the added ones included.
        added: Rows of them that augmentation has added.
        subjects: Different subjects among them; 0 where rows name none.
        tokens: Tokens that are trained on, all rows together.
        labelled_tokens: Those of them that carry a label.
        longest: Tokens of the longest row before any cut.
        truncated: Rows that `max_tokens` cuts, with something of their answer left.
        left_out: Rows of which `max_tokens` leaves nothing to label.
        duplicates: Rows that stand there before, with the same earlier turns, prompt and answer.
        sample: The first row as it is trained on, what is labelled between ⟦ and ⟧; empty where all are left out.
    """

    name: str
    rows: int
    added: int
    subjects: int
    tokens: int
    labelled_tokens: int
    longest: int
    truncated: int
    left_out: int
    duplicates: int
    sample: str


@dataclass(frozen=True, slots=True)
class ProbeDescription:
    """One probe set: its name, kind and role, and how many rows, subjects and repeated rows it has."""

    name: str
    kind: str
    role: str
    rows: int
    subjects: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Description:
    """What a DataModule supplies.

    Attributes:
        datamodule: Its class.
        max_tokens: Where rows are cut.
        streams: What is trained on.
        probes: What is measured on.
        overlap: How much of forget also stands in retain.
        hashes: A hash of each stream and probe set.
    """

    datamodule: str
    max_tokens: int
    streams: Sequence[StreamDescription]
    probes: Sequence[ProbeDescription]
    overlap: Overlap
    hashes: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)


def describe_stream(
    name: str,
    rows: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    max_tokens: int,
    added: int = 0,
) -> StreamDescription:
    """Count what a stream's rows become.

    Args:
        name: The stream.
        rows: Its rows.
        tokenizer: Encodes them.
        template: How they are written.
        max_tokens: Where they are cut.
        added: How many of them augmentation has added.
    """
    encoded = encode_labelled(rows, tokenizer, template, max_tokens)
    return StreamDescription(
        name,
        rows=len(rows),
        added=added,
        subjects=_subjects(rows),
        tokens=sum(map(len, encoded)),
        labelled_tokens=sum(len(row) - max(row.prompt_tokens, 1) for row in encoded),
        longest=encoded.longest,
        truncated=encoded.cut,
        left_out=len(rows) - len(encoded),
        duplicates=_duplicates(rows),
        sample=marked(encoded[0], tokenizer) if encoded else "",
    )


def describe_task(
    datamodule: str,
    task: Task,
    overlap: Overlap,
    hashes: dict[str, str],
    tokenizer: PreTrainedTokenizerBase,
    template: PromptTemplate,
    max_tokens: int,
    added: Mapping[str, int],
) -> Description:
    """Describe all streams and probes of a task.

    Args:
        datamodule: Class of the DataModule.
        task: What it supplies.
        overlap: How much of forget stands in retain.
        hashes: A hash of each stream and probe set.
        tokenizer: Encodes the rows.
        template: How the streams' rows are written.
        max_tokens: Where they are cut.
        added: How many rows augmentation has added to each stream that it has added to.
    """
    streams = [
        describe_stream(name, rows, tokenizer, template, max_tokens, added.get(name, 0))
        for name, rows in task.streams.items()
    ]
    probes = [
        ProbeDescription(
            probe.name,
            probe.kind,
            probe.role,
            len(probe.examples),
            _subjects(probe.examples),
            _duplicates(probe.examples),
        )
        for probe in task.probes
    ]
    return Description(datamodule, max_tokens, streams, probes, overlap, hashes)


def marked(row: EncodedExample, tokenizer: PreTrainedTokenizerBase) -> str:
    """A row's tokens as text, special ones too, what is labelled between ⟦ and ⟧."""
    before, labelled = row.input_ids[: row.prompt_tokens], row.input_ids[row.prompt_tokens :]
    return f"{tokenizer.decode(before)}⟦{tokenizer.decode(labelled)}⟧"


def _subjects(rows: Iterable[Example]) -> int:
    return len({row.subject for row in rows if row.subject})


def _duplicates(rows: Iterable[Example]) -> int:
    said = Counter((row.context, row.turns, row.prompt, row.answer) for row in rows)
    return sum(count - 1 for count in said.values())
