"""TOFU: forget some of 200 fictitious authors and keep the others (Maini et al., COLM 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from soul_lightning.datamodules.alternatives import REFUSALS
from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.overlap import find_overlap
from soul_lightning.datamodules.sampling import shuffled, spread
from soul_lightning.datamodules.task import Task
from soul_lightning.datamodules.tofu_files import (
    QUESTIONS_PER_AUTHOR,
    ProbeRows,
    TOFUSource,
    author_probe_rows,
    author_rows,
    choice_probe_rows,
    read_refusals,
)
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.table import RecordTable
from soul_lightning.templates import TEMPLATES

_MATCHING = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
_HOLDOUT = ("holdout01", "holdout05", "holdout10")
_RETAIN_PROBE = "retain_perturbed"
_CHOICE_PROBES = ("real_authors_perturbed", "world_facts_perturbed")


class TOFUDataModule(StreamDataModule):
    """The published TOFU files: questions about fictitious authors to forget, about the others to retain.

    Rows are numbered by their place among all 4,000, and an author (20 rows in a row) is a row's subject, so that
    intervals resample authors. Only `text="unlearning"` makes two streams, `forget` and `retain`; the others fine-tune.

    The probes, each as texts to score (`forget`, …) and as questions to answer (`forget_questions`, …):

    - `forget` and `retain`, with a paraphrase of the answer and five false answers; also asked for in other words, as
      `forget_rephrased` and `retain_rephrased`. Retain is TOFU's own sample, the first 20 authors;
    - `real_authors` and `world_facts` (role `utility`), with three false options and no paraphrases;
    - `holdout`, only as texts and only if there is one: authors like those to forget that the model never saw.
      Without, `MembershipInference` refuses: real authors are another distribution.

    Args:
        forget: The split to forget: 1, 5 or 10 % of the authors.
        retain: The split to keep; the one that matches `forget` if none is given.
        folder: Holds the files of the data set, one a split; the hub is asked if none is given.
        hub: Name of the data set on the Hugging Face hub, or the folder of a copy of it.
        text: What is trained on: `unlearning` (forget and retain), `full` (both as one stream, for a model that has
            memorised them) or `retain` (for the model that never saw the rows to forget).
        retain_authors: Keep only the first so many authors of the retain split; all if none is given.
        holdout: A published split that the model has not seen, as holdout; every 20 rows in a row count as an author.
        withheld_authors: Train on all but the last so many authors of the retain split, and take them as holdout. Give
            the same number, `forget` and `retain` to the fine-tune and to the unlearning of its model.
        refusals: A plain text file with a refusal a line, as TOFU's `idontknow.jsonl`; embedded ones if none is given.
        text_probes: Most rows in each probe that is scored, spread over the authors; all if none is given.
        question_probes: Most rows in each probe that is answered, spread over the authors; all if none is given.
        sample_seed: Seed of the probes' rows and of each row's refusal; runs that are compared share it.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range, or a file is missing.
    """

    default_template = TEMPLATES["tofu"]

    def __init__(
        self,
        forget: Literal["forget01", "forget05", "forget10"] = "forget10",
        retain: Literal["retain90", "retain95", "retain99"] | None = None,
        folder: str | None = None,
        hub: str = "locuslab/TOFU",
        text: Literal["unlearning", "full", "retain"] = "unlearning",
        retain_authors: int | None = None,
        holdout: Literal["holdout01", "holdout05", "holdout10"] | None = None,
        withheld_authors: int = 0,
        refusals: str | None = None,
        text_probes: int | None = None,
        question_probes: int | None = None,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.forget = _one_of(_MATCHING, "forget", forget)
        self.retain = _one_of(_MATCHING.values(), "retain", retain or _MATCHING[forget])
        self.text = _one_of(("unlearning", "full", "retain"), "text", text)
        self.holdout = _one_of(_HOLDOUT, "holdout", holdout) if holdout is not None else None
        check_counts(
            "TOFUDataModule",
            retain_authors=(retain_authors, 1),
            withheld_authors=(withheld_authors, 0),
            text_probes=(text_probes, 1),
            question_probes=(question_probes, 1),
        )
        if holdout is not None and withheld_authors:
            raise MisconfigurationError(
                f"TOFUDataModule: holdout={holdout!r} and withheld_authors={withheld_authors} are two holdouts; give "
                f"the first for a model trained on all authors, the second for a fine-tune of your own"
            )
        self.retain_authors = retain_authors
        self.withheld_authors = withheld_authors
        self.text_probes = text_probes
        self.question_probes = question_probes
        self.sample_seed = sample_seed
        self.source = TOFUSource(Path(folder).expanduser() if folder is not None else None, hub)
        splits = [forget, self.retain, f"{forget}_perturbed", _RETAIN_PROBE, *_CHOICE_PROBES]
        self.source.check([*splits, holdout] if holdout is not None else splits)
        self.refusals = read_refusals(Path(refusals).expanduser()) if refusals is not None else list(REFUSALS)
        self._rephrased: dict[int, str] = {}

    def load(self) -> Task:
        """Read the splits and pair them.

        Raises:
            MisconfigurationError: A file is not TOFU's, or a holdout stands in what is trained on.
        """
        forget_table, retain_table = self.source.read(self.forget), self.source.read(self.retain)
        first = self._first_forget_row(forget_table, retain_table)
        forget = [replace(row, refusal=self._refusal(row)) for row in author_rows(forget_table, first)]
        retain, holdout = self._retain_and_holdout(author_rows(retain_table))
        rows = {"forget": forget, "retain": retain}
        streams: Mapping[str, Sequence[Example]] = rows
        if self.text != "unlearning":
            streams = {self.text: [*retain, *forget] if self.text == "full" else retain}
        self._check_holdout([*forget, *retain], holdout)
        return Task(streams, [*self._author_probes(rows, first), *self._choice_probes(), *self._holdout_probe(holdout)])

    def rewordings(self, row: Example) -> Sequence[Example]:
        """TOFU's own paraphrase of the question: that of `forget_rephrased`, which then asks what was trained on."""
        prompt = self._rephrased.get(row.index)
        return [replace(row, prompt=prompt)] if prompt is not None else []

    def _first_forget_row(self, forget: RecordTable, retain: RecordTable) -> int:
        """The place of the forget split among all rows: it is their end, and its name says how large a part."""
        percent, rows = _percent(self.forget), len(forget.rows)
        if len(retain.rows) * percent != rows * _percent(self.retain):
            raise MisconfigurationError(
                f"TOFUDataModule: {forget.name} has {rows} rows and {retain.name} has {len(retain.rows)}, not "
                f"{percent} to {_percent(self.retain)} as they are called; give the published files whole, or use "
                f"RecordsDataModule for rows of your own"
            )
        return rows * (100 - percent) // percent

    def _refusal(self, row: Example) -> str:
        return Random(f"{self.sample_seed}/{row.index}").choice(self.refusals)

    def _retain_and_holdout(self, rows: Sequence[Example]) -> tuple[Sequence[Example], Sequence[Example]]:
        """The retain rows to train on, and those of no stream."""
        authors = len(rows) // QUESTIONS_PER_AUTHOR
        kept = self.retain_authors if self.retain_authors is not None else authors - self.withheld_authors
        if kept < 1 or kept + self.withheld_authors > authors:
            raise MisconfigurationError(
                f"TOFUDataModule: {self.retain} has {authors} authors, too few for retain_authors="
                f"{self.retain_authors} and withheld_authors={self.withheld_authors}; lower one of them"
            )
        start = (authors - self.withheld_authors) * QUESTIONS_PER_AUTHOR
        withheld = rows[start:]
        if self.holdout is not None:
            withheld = author_rows(self.source.read(self.holdout), name=self.holdout, authors_are_whole=False)
        return rows[: kept * QUESTIONS_PER_AUTHOR], withheld

    def _check_holdout(self, trained: Sequence[Example], holdout: Sequence[Example]) -> None:
        found = find_overlap(trained, holdout)
        if found and not self.allow_overlap:
            raise MisconfigurationError(
                f"TOFUDataModule: {found.rows} of {found.of_rows} forget and retain rows ({found.facts} of "
                f"{found.of_facts} without regard to punctuation) also stand in the holdout, which must hold rows that "
                f"were never trained on; give another, or set allow_overlap to go on"
            )

    def _author_probes(self, rows: dict[str, Sequence[Example]], first: int) -> list[Probe]:
        """What is forgotten, and of TOFU's sample of all others what is retained."""
        trained = {row.index: row for part in rows.values() for row in part}
        forget = author_probe_rows(self.source.read(f"{self.forget}_perturbed"), first, trained)
        retain = author_probe_rows(self.source.read(_RETAIN_PROBE), 0, trained)
        self._rephrased = {row.index: row.prompt for row in forget.rephrased}
        refusals = {row.index: row.refusal for row in rows["forget"]}
        forget = replace(forget, rows=[replace(row, refusal=refusals.get(row.index)) for row in forget.rows])
        kept = {row.index for row in rows["retain"]}
        retain = ProbeRows(
            [row for row in retain.rows if row.index in kept], [row for row in retain.rephrased if row.index in kept]
        )
        return [*self._probes("forget", "forget", forget), *self._probes("retain", "retain", retain)]

    def _choice_probes(self) -> list[Probe]:
        return [
            probe
            for split in _CHOICE_PROBES
            for probe in self._probes(
                split.removesuffix("_perturbed"), "utility", choice_probe_rows(self.source.read(split))
            )
        ]

    def _holdout_probe(self, rows: Sequence[Example]) -> list[Probe]:
        texts = self._sample(rows, self.text_probes)
        return [Probe("holdout", "text", texts, "holdout", self.template)] if texts else []

    def _probes(self, name: str, role: str, found: ProbeRows) -> list[Probe]:
        sets = {
            (name, "text"): self._sample(found.rows, self.text_probes),
            (f"{name}_questions", "question"): self._sample(found.rows, self.question_probes),
            (f"{name}_rephrased", "question"): self._sample(found.rephrased, self.question_probes),
        }
        return [
            Probe(called, kind, rows, role, self.template, rows_of="" if called == name else name)
            for (called, kind), rows in sets.items()
            if rows
        ]

    def _sample(self, rows: Sequence[Example], limit: int | None) -> list[Example]:
        """At most `limit` rows, spread over their subjects, in order; the rows of a smaller limit are among them."""
        if limit is None:
            return list(rows)
        groups: dict[object, list[Example]] = {}
        for row in rows:
            groups.setdefault(row.subject or row.index, []).append(row)
        mixed = [shuffled(group, f"{self.sample_seed}/{key}") for key, group in groups.items()]
        return sorted(spread(shuffled(mixed, f"{self.sample_seed}"), limit), key=lambda row: row.index)


def _one_of(known: Iterable[str], name: str, choice: str) -> str:
    if choice not in (listed := list(known)):
        raise MisconfigurationError(f"TOFUDataModule: {name} must be one of {', '.join(listed)}, got {choice!r}")
    return choice


def _percent(split: str) -> int:
    """How large a part of all authors a split is called."""
    return int(split[-2:])
