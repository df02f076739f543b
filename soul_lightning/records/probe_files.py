"""A file of rows as a probe, so that callbacks need no DataModule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import RecordSource, read_records
from soul_lightning.records.table import RecordTable
from soul_lightning.templates import PromptTemplate, TemplateName, named_template

ProbeKind = Literal["question", "text", "multiple_choice", "prompt"]
COLUMNS = {
    "prompt": ("prompt", "question"),
    "answer": ("answer",),
    "text": ("text",),
    "context": ("context",),
    "paraphrase": ("paraphrase", "paraphrased_answer"),
    "perturbed": ("perturbed", "perturbed_answer"),
    "aliases": ("aliases",),
    "choices": ("choices", "options"),
    "gold": ("gold", "label"),
    "subject": ("subject", "author", "entity"),
    "relation": ("relation",),
}
"""Under which names a column is looked for, the first that there is; `choices` are all options of a multiple-choice
question and `gold` the place of the right one, from 0, in place of `answer` and `perturbed`. `perturbed`, `aliases` and
`choices` hold lists of texts, of which the first two may be empty in a row, as may any text beside prompts and answers.
"""


@dataclass(frozen=True)
class ProbeFile:
    """A file that a callback measures on.

    Attributes:
        path: A .jsonl, .json, .csv, .tsv, .parquet or .txt file, see `COLUMNS`.
        role: `Probe.role`: `forget`, `retain`, `holdout`, `utility`, `corrupted`, `control`, `toxicity`.
        name: `Probe.name`; the role if none is given.
        kind: `Probe.kind`; by the columns if none is given: `multiple_choice` where there are choices, `question` where
            there are prompts and answers, `prompt` where there are prompts alone, else `text`.
        template: How prompts and answers are written, or the name of such a format; that of the DataModule, or the
            default, if none is given.
    """

    path: str
    role: str
    name: str | None = None
    kind: ProbeKind | None = None
    template: PromptTemplate | TemplateName | None = None


def read_probe(file: ProbeFile, template: PromptTemplate) -> Probe:
    """Read a file of rows as a probe.

    Args:
        file: The file.
        template: How prompts and answers are written where the file names no template.

    Raises:
        MisconfigurationError: The file, a column or a cell is not usable.
    """
    table = read_records(RecordSource(file.path), f"the probe file of the role {file.role}")
    if not table.rows:
        raise MisconfigurationError(f"the probe file {table.name} has no rows; give a file with at least one")
    columns = _Columns(table)
    kind = file.kind or columns.kind
    own = named_template(file.template) if file.template is not None else template
    return Probe(file.name or file.role, kind, columns.examples(kind), file.role, own)


@dataclass(frozen=True)
class _Columns:
    """A table whose columns are asked for by what they mean."""

    table: RecordTable

    def named(self, meaning: str) -> str | None:
        return next((name for name in COLUMNS[meaning] if name in self.table.columns), None)

    def has(self, *meanings: str) -> bool:
        return all(self.named(meaning) is not None for meaning in meanings)

    @property
    def kind(self) -> ProbeKind:
        if self.has("choices"):
            return "multiple_choice"
        if self.has("prompt"):
            return "question" if self.has("answer") else "prompt"
        return "text"

    def examples(self, kind: ProbeKind) -> list[Example]:
        is_plain = kind == "text" and not self.has("prompt")
        prompts = [""] * len(self.table.rows) if is_plain else self._texts("prompt")
        answers, perturbed = self._choices() if self.has("choices") else self._answers(kind)
        columns = zip(
            prompts, answers, perturbed, self._lists("aliases"),
            *(self._optional(meaning) for meaning in ("context", "paraphrase", "subject", "relation")), strict=True,
        )  # fmt: skip
        return [
            Example(
                answer, prompt, index, context=context or "", perturbed=perturbed, aliases=aliases,
                paraphrase=paraphrase, subject=subject, relation=relation,
            )
            for index, (prompt, answer, perturbed, aliases, context, paraphrase, subject, relation)
            in enumerate(columns)
        ]  # fmt: skip

    def _answers(self, kind: ProbeKind) -> tuple[Sequence[str], Sequence[tuple[str, ...]]]:
        """The true answer of each row, and the false ones."""
        if kind == "prompt":
            return [text or "" for text in self._optional("answer")], self._lists("perturbed")
        if kind == "multiple_choice":  # which is answered by default where nothing is false
            return self._texts("answer"), self.table.text_lists(self.named("perturbed") or COLUMNS["perturbed"][0])
        is_text = kind == "text" and (not self.has("answer") or (self.has("text") and not self.has("prompt")))
        return self._texts("text" if is_text else "answer"), self._lists("perturbed")

    def _choices(self) -> tuple[Sequence[str], Sequence[tuple[str, ...]]]:
        """The right option of each row, and the others, which are false."""
        options = self.table.text_lists(self.named("choices") or COLUMNS["choices"][0])
        gold = self.table.values(self.named("gold") or COLUMNS["gold"][0])
        for number, choices, right in zip(self.table.numbers, options, gold, strict=True):
            if type(right) is not int or not 0 <= right < len(choices) or len(choices) < 2:
                raise MisconfigurationError(
                    f"{self.table.unit} {number} of {self.table.name} has {len(choices)} choices and names {right!r} "
                    f"as the right one; write at least two, and the place of the right one from 0"
                )
        rows = list(zip(options, gold, strict=True))
        return [row[right] for row, right in rows], [(*row[:right], *row[right + 1 :]) for row, right in rows]

    def _texts(self, meaning: str) -> list[str]:
        return self.table.texts(self.named(meaning) or COLUMNS[meaning][0])

    def _optional(self, meaning: str) -> Sequence[str | None]:
        return self.table.optional_texts(self.named(meaning))

    def _lists(self, meaning: str) -> Sequence[tuple[str, ...]]:
        column = self.named(meaning)
        if column is None:
            return [()] * len(self.table.rows)
        filled = [place for place, value in enumerate(self.table.values(column)) if value not in (None, "", [])]
        rows = [self.table.rows[place] for place in filled]
        numbers = [self.table.numbers[place] for place in filled]
        lists = replace(self.table, rows=rows, numbers=numbers).text_lists(column)
        found = dict(zip(filled, lists, strict=True))
        return [found.get(place, ()) for place in range(len(self.table.rows))]
