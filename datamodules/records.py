"""The user's own rows: what to forget, what to keep, what to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.conversations import Conversation, read_conversations
from soul_lightning.datamodules.overlap import ForgetRows, find_overlap
from soul_lightning.datamodules.streamed_rows import StreamedRows
from soul_lightning.datamodules.task import Task
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import (
    RecordSource,
    check_source,
    data_set_name,
    read_records,
    text_column_of,
)
from soul_lightning.records.table import RecordTable

STREAMED_PROBE_ROWS = 64
"""So many of the first rows of a streamed source are its probe."""


class RecordsDataModule(StreamDataModule):
    """Forget and retain rows of the user's own files: questions with answers, conversations, or plain text.

    A source is a path (.jsonl, .json, .csv, .tsv, .parquet, .txt), the name of a Hugging Face data set, or a
    `RecordSource` with a subset and a split. All sources have the same columns, save .txt files and sources with a
    `text_column` of their own, which are plain text. Code that comes with a data set is never run.

    The probes are the rows of each source as `text` (their likelihood is scored), and the forget rows with prompts
    also as `question` under the name `forget_questions` (answers are generated and judged).

    Args:
        forget: Rows to forget; an epoch is one pass over them.
        retain: Rows to keep. With `streamed` set in its `RecordSource` they are read as training needs them; rows that
            also stand in forget are then left out, and the probe holds the first 64 others, which are trained on too.
        holdout: Rows like those of forget that the model has never seen, for membership inference.
        utility: Held-out text on which the model must stay good.
        prompt_column: Column of the prompts.
        answer_column: Column of the answers.
        text_column: Column of plain texts; with it the rows have neither prompts nor answers.
        messages_column: Column of conversations, lists of {role, content}: the last message is the answer, the one
            before it the prompt, and what was said before stands before the prompt without a label.
        refusal_column: Column of answers that decline.
        paraphrase_column: Column of the true answers in other words.
        subject_column: Column of the entity that a row is about; intervals resample by it.
        relation_column: Column of what a row asks about its subject.
        limit_forget: Take the first so many forget rows.
        limit_retain: Take the first so many retain rows.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range, or a file is missing or of unknown kind.
    """

    def __init__(
        self,
        forget: str | RecordSource,
        retain: str | RecordSource | None = None,
        holdout: str | RecordSource | None = None,
        utility: str | RecordSource | None = None,
        prompt_column: str = "prompt",
        answer_column: str = "answer",
        text_column: str | None = None,
        messages_column: str | None = None,
        refusal_column: str | None = None,
        paraphrase_column: str | None = None,
        subject_column: str | None = None,
        relation_column: str | None = None,
        limit_forget: int | None = None,
        limit_retain: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given_columns = {
            "text_column": text_column,
            "messages_column": messages_column,
            "prompt_column": prompt_column if (prompt_column, answer_column) != ("prompt", "answer") else None,
        }
        named = [f"{name}={column!r}" for name, column in given_columns.items() if column is not None]
        if len(named) > 1:
            raise MisconfigurationError(
                f"RecordsDataModule: {' and '.join(named)} say in different ways what a row is; give one of them"
            )
        for name, limit in (("limit_forget", limit_forget), ("limit_retain", limit_retain)):
            if limit is not None and limit < 1:
                raise MisconfigurationError(f"{name} must be >= 1, got {limit}; leave it out to take every row")
        given = {"forget": forget, "retain": retain, "holdout": holdout, "utility": utility}
        self.sources = {
            role: source if isinstance(source, RecordSource) else RecordSource(source)
            for role, source in given.items()
            if source is not None
        }
        for role, source in self.sources.items():
            check_source(source, role)
            if role in ("retain", "holdout") and source == self.sources["forget"] and not self.allow_overlap:
                raise MisconfigurationError(
                    f"RecordsDataModule: forget and {role} are both {data_set_name(source)}; give other rows as "
                    f"{role}, or set allow_overlap to go on"
                )
        self.limits: dict[str, int | None] = {"forget": limit_forget, "retain": limit_retain}
        self.prompt_column = prompt_column
        self.answer_column = answer_column
        self.text_column = text_column
        self.messages_column = messages_column
        self.refusal_column = refusal_column
        self.paraphrase_column = paraphrase_column
        self.subject_column = subject_column
        self.relation_column = relation_column

    def load(self) -> Task:
        """Read every source.

        Raises:
            MisconfigurationError: A file, a column or a row is not usable, or forget rows stand in holdout.
        """
        in_memory = {
            role: source for role, source in self.sources.items() if not (role == "retain" and source.streamed)
        }
        rows = {role: self._read(role, source) for role, source in in_memory.items()}
        if "holdout" in rows and not self.allow_overlap:
            overlap = find_overlap(rows["forget"], rows["holdout"])
            if overlap:
                raise MisconfigurationError(
                    f"{overlap.rows} of {overlap.of_rows} forget rows ({overlap.facts} of {overlap.of_facts} without "
                    f"regard to punctuation) also stand in holdout, which must hold rows that were never trained on; "
                    f"remove them there, or set allow_overlap to go on"
                )
        streamed = {role: self._later(role, self.sources[role]) for role in self.sources if role not in rows}
        samples = {
            role: rows[role] if role in rows else self._first(streamed[role], rows["forget"]) for role in self.sources
        }
        probes = [Probe(role, "text", examples, role, self.template) for role, examples in samples.items()]
        questions = [example for example in rows["forget"] if example.prompt]
        if questions:
            probes.append(Probe("forget_questions", "question", questions, "forget", self.template, rows_of="forget"))
        return Task({role: rows[role] for role in self.limits if role in rows}, probes, streamed)

    def _read(self, role: str, source: RecordSource) -> list[Example]:
        table = read_records(source, role)
        limit = self.limits.get(role)
        table = replace(table, rows=table.rows[:limit], numbers=table.numbers[:limit])
        if not table.rows:
            raise MisconfigurationError(f"{role}: {table.name} has no rows; give a file with at least one")
        return self._examples(table, role)

    def _later(self, role: str, source: RecordSource) -> StreamedRows:
        column = text_column_of(source, self.text_column) or self.messages_column
        columns = (column,) if column is not None else (self.prompt_column, self.answer_column)
        rows = StreamedRows(source, role, partial(self._examples, role=role), columns, rows=self.limits[role])
        if not rows.head(1):
            raise MisconfigurationError(f"{role}: {rows.name} has no rows with text; give a file with at least one")
        return rows

    def _first(self, streamed: StreamedRows, forget: Sequence[Example]) -> list[Example]:
        """The first rows that are trained on, for a probe."""
        found = streamed.head(STREAMED_PROBE_ROWS, ForgetRows(forget if not self.allow_overlap else ()))
        if not found:
            raise MisconfigurationError(
                f"{streamed.role}: every row of {streamed.name} also stands in forget; give other rows as "
                f"{streamed.role}, or set allow_overlap to go on"
            )
        return found

    def _examples(self, table: RecordTable, role: str) -> list[Example]:
        text_column = text_column_of(self.sources[role], self.text_column)
        if text_column is not None:
            return [Example(text, index=index) for index, text in enumerate(table.texts(text_column))]
        return self._questions(table, role)

    def _questions(self, table: RecordTable, role: str) -> list[Example]:
        """Rows with prompts; what belongs to forgetting (refusals and the like) is asked of the forget rows alone."""
        if self.messages_column is not None:
            said = read_conversations(table, self.messages_column)
        else:
            prompts, answers = table.texts(self.prompt_column), table.texts(self.answer_column)
            said = [Conversation(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        columns = (self.refusal_column, self.paraphrase_column, self.subject_column, self.relation_column)
        optional: Sequence[list[str | None]] = [
            table.optional_texts(column if role == "forget" or column in table.columns else None) for column in columns
        ]
        return [
            Example(
                answer,
                prompt,
                index,
                refusal=refusal,
                paraphrase=paraphrase,
                subject=subject,
                relation=relation,
                turns=turns,
            )
            for index, ((prompt, answer, turns), refusal, paraphrase, subject, relation) in enumerate(
                zip(said, *optional, strict=True)
            )
        ]
