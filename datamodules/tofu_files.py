"""TOFU's files (Maini et al., COLM 2024): questions about fictitious authors, from a folder or from the hub.

https://huggingface.co/datasets/locuslab/TOFU
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example
from soul_lightning.records.sources import RecordSource, read_records
from soul_lightning.records.table import RecordTable
from soul_lightning.records.text_files import says_something, text_lines

QUESTIONS_PER_AUTHOR = 20
"""Every split holds whole authors, one after the other, with so many rows each."""
_SUFFIXES = (".jsonl", ".json")


@dataclass(frozen=True)
class TOFUSource:
    """Where the splits are read from.

    Attributes:
        folder: Holds one file of JSON lines a split (`forget10.jsonl`, or `forget10.json` as on the hub); the hub is
            asked if none is given.
        hub: Name of the Hugging Face data set with one configuration a split, or the folder of a copy of it.
    """

    folder: Path | None
    hub: str

    def check(self, splits: Iterable[str]) -> None:
        """Refuse, before anything is read, a folder that lacks a split.

        Raises:
            MisconfigurationError: With the split and what is there.
        """
        if self.folder is not None:
            for split in splits:
                self._find(self.folder, split)

    def read(self, split: str) -> RecordTable:
        """The rows of a split.

        Raises:
            MisconfigurationError: It cannot be read, or it is empty.
        """
        if self.folder is not None:
            source = RecordSource(str(self._find(self.folder, split)))
        else:
            source = RecordSource(self.hub, split)
        way_out = f"set folder to a local folder with {split}.jsonl and the other splits, or hub to another name"
        table = read_records(source, "TOFUDataModule", way_out)
        if not table.rows:
            raise MisconfigurationError(f"TOFUDataModule: {table.name} has no rows; fetch the published file again")
        return table

    def _find(self, folder: Path, split: str) -> Path:
        for suffix in _SUFFIXES:
            if (folder / f"{split}{suffix}").is_file():
                return folder / f"{split}{suffix}"
        there = sorted({path.stem for suffix in _SUFFIXES for path in folder.glob(f"*{suffix}")})
        raise MisconfigurationError(
            f"TOFUDataModule: there is no {split}.jsonl in folder={str(folder.absolute())!r}, which has "
            f"{', '.join(there) or 'no such file'}; put the file of {self.hub} there, or leave folder out to read the "
            f"hub"
        )


@dataclass(frozen=True)
class ProbeRows:
    """Rows with other answers to compare with.

    Attributes:
        rows: The rows as they are trained on, each with its false answers and, where there is one, its paraphrase.
        rephrased: The same rows, asked for in other words; none for real authors and world facts.
    """

    rows: Sequence[Example]
    rephrased: Sequence[Example] = ()


def author_rows(
    table: RecordTable, first: int = 0, name: str = "author", authors_are_whole: bool = True
) -> list[Example]:
    """Questions and answers, each under its author.

    Args:
        table: A split.
        first: Place of its first row among all rows; the rows are numbered from there, so that a row has one number in
            whatever split it stands. (Numbers, for one question occurs twice, with different answers.)
        name: Authors are called by it and by their number.
        authors_are_whole: Refuse a split that ends in the middle of an author.

    Raises:
        MisconfigurationError: A question or an answer is missing, or an author lacks questions.
    """
    if authors_are_whole and len(table.rows) % QUESTIONS_PER_AUTHOR:
        raise MisconfigurationError(
            f"TOFUDataModule: {table.name} has {len(table.rows)} rows, and every author has {QUESTIONS_PER_AUTHOR}; "
            f"give the published file whole, or use RecordsDataModule for rows of your own"
        )
    return [
        Example(answer, question, first + row, subject=f"{name}_{(first + row) // QUESTIONS_PER_AUTHOR:03d}")
        for row, (question, answer) in enumerate(zip(table.texts("question"), table.texts("answer"), strict=True))
    ]


def author_probe_rows(table: RecordTable, first: int, trained: Mapping[int, Example]) -> ProbeRows:
    """Rows of authors with false answers, and with question and answer in other words.

    Args:
        table: A split with `paraphrased_answer`, `paraphrased_question` and `perturbed_answer`.
        first: Place of its first row among all rows.
        trained: The rows that are trained on, by number; those that are among them must say the same.

    Raises:
        MisconfigurationError: A column is missing, or a row is not the one that is trained on.
    """
    rows = author_rows(table, first)
    for row, number in zip(rows, table.numbers, strict=True):
        plain = trained.get(row.index, row)
        if (plain.prompt, plain.answer) != (row.prompt, row.answer):
            raise MisconfigurationError(
                f"TOFUDataModule: {table.unit} {number} of {table.name} asks {row.prompt!r:.60}, and the row of the "
                f"plain split at its place asks {plain.prompt!r:.60} or has another answer; take all files from one "
                f"copy of the data set"
            )
    others = zip(
        rows, table.texts("paraphrased_answer"), table.texts("paraphrased_question"),
        table.text_lists("perturbed_answer"), strict=True,
    )  # fmt: skip
    full = [
        (replace(row, paraphrase=paraphrase, perturbed=perturbed), question)
        for row, paraphrase, question, perturbed in others
    ]
    return ProbeRows([row for row, _ in full], [replace(row, prompt=question) for row, question in full])


def choice_probe_rows(table: RecordTable) -> ProbeRows:
    """Rows about the real world, each with the options that are false; there are no paraphrases.

    Raises:
        MisconfigurationError: A column is missing.
    """
    columns = zip(table.texts("question"), table.texts("answer"), table.text_lists("perturbed_answer"), strict=True)
    return ProbeRows(
        [Example(answer, question, row, perturbed=false) for row, (question, answer, false) in enumerate(columns)]
    )


def read_refusals(path: Path) -> list[str]:
    """Refusals out of a plain text file, one a line; TOFU's `idontknow.jsonl` is one, in spite of its name.

    Raises:
        MisconfigurationError: There is no such file, it is empty, or it holds JSON.
    """
    if not path.is_file():
        raise MisconfigurationError(
            f"TOFUDataModule: refusals={str(path.absolute())!r} cannot be read, for there is no such file; give a text "
            f"file with a refusal a line, or leave it out for the embedded ones"
        )
    lines = list(text_lines(path.absolute()))
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith(("{", "[")):
            raise MisconfigurationError(
                f"TOFUDataModule: {path}:{number} of refusals looks like JSON ({line.strip()!r:.40}); write plain "
                f"text, a refusal a line"
            )
    refusals = [line.strip() for line in lines if says_something(line)]
    if not refusals:
        raise MisconfigurationError(
            f"TOFUDataModule: refusals={str(path)!r} is empty; write a refusal a line, or leave it out for the "
            f"embedded ones"
        )
    return refusals
