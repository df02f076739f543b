"""WMDP: forget a corpus of hazardous knowledge, keep another, ask with multiple choice (Li et al., ICML 2024)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.task import Task
from soul_lightning.encoding import beginning_of_text, cut_texts
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import RecordSource, check_source, read_records, text_column_of
from soul_lightning.records.table import TEXT_COLUMN, RecordTable
from soul_lightning.records.text_files import local_path, read_text
from soul_lightning.templates import PromptTemplate

logger = logging.getLogger(__name__)

WMDP_TEMPLATE = PromptTemplate(prompt="Question: {prompt}\nAnswer:", answer=" {answer}", end_of_text=False)
"""How multiple-choice questions are written. Texts end without an end-of-text token, for most are cut."""
_ARGUMENTS = {"forget": "questions", "utility": "utility_questions"}
"""The argument that gives the question sets of a role."""


class WMDPDataModule(StreamDataModule):
    """Corpora in the form of WMDP's: texts to forget, texts to retain, and multiple-choice questions on both.

    A corpus is a file with a text column, a folder of .txt files (a text each), the name of a Hugging Face data set, or
    a `RecordSource` with a subset and a split. WMDP's own are cais/wmdp-corpora (`cyber-forget-corpus`,
    `cyber-retain-corpus`, `bio-retain-corpus`) and cais/wmdp-bio-forget-corpus, which is given on request.

    Questions are rows with a question, a list of choices and the number of the right one, counted from 0, as in
    cais/wmdp (subsets `wmdp-bio`, `wmdp-cyber`, `wmdp-chem`, split `test`) and cais/mmlu. They become probes of the
    kind `multiple_choice`: `answer` is the right choice, `perturbed` are the others. A choice is scored by its own
    likelihood, which is another number than that of a prompt that lists the choices under letters.

    Further probes are samples of the two streams as `text`, under `forget` and `retain`, and under `utility` the retain
    texts that follow on those that are trained on, where `limit_retain` leaves any. There is no holdout: the corpora
    were never taught to the model by a fine-tune, so what of them it has seen is unknown.

    Args:
        forget: Corpus to forget; an epoch is one pass over it.
        retain: Corpus to keep.
        questions: Question sets on what is forgotten, by name.
        utility_questions: Question sets on what must stay, by name.
        text_column: Column of the texts of both corpora.
        question_column: Column of the questions.
        choices_column: Column of the choices.
        answer_column: Column of the number of the right choice.
        min_characters: Shorter texts are left out, for corpora hold headings and empty lines; so are repeated ones.
        limit_forget: Take the first so many forget texts.
        limit_retain: Take the first so many retain texts.
        text_probes: Most rows in each text probe.
        question_probes: Most rows in each question set; all if none is given.
        sample_seed: Seed of the probes' rows; runs that are compared share it.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range, or a file is missing.
    """

    default_template = WMDP_TEMPLATE

    def __init__(
        self,
        forget: str | RecordSource,
        retain: str | RecordSource | None = None,
        questions: Mapping[str, str | RecordSource] | None = None,
        utility_questions: Mapping[str, str | RecordSource] | None = None,
        text_column: str = TEXT_COLUMN,
        question_column: str = "question",
        choices_column: str = "choices",
        answer_column: str = "answer",
        min_characters: int = 50,
        limit_forget: int | None = None,
        limit_retain: int | None = None,
        text_probes: int = 64,
        question_probes: int | None = None,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_counts(
            "WMDPDataModule",
            min_characters=(min_characters, 1),
            limit_forget=(limit_forget, 1),
            limit_retain=(limit_retain, 1),
            text_probes=(text_probes, 0),
            question_probes=(question_probes, 1),
        )
        given = {"forget": forget} | ({"retain": retain} if retain is not None else {})
        self.corpora = {role: _as_source(source) for role, source in given.items()}
        self.questions = {
            role: {name: _as_source(source) for name, source in (sets or {}).items()}
            for role, sets in (("forget", questions), ("utility", utility_questions))
        }
        for role, source in self.corpora.items():
            check_source(source, role)
        for role, sets in self.questions.items():
            for name, source in sets.items():
                check_source(source, f"{_ARGUMENTS[role]}.{name}")
        names = [*self.corpora, *(name for sets in self.questions.values() for name in sets), "utility"]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise MisconfigurationError(
                f"WMDPDataModule: two probe sets would be called {twice!r}; forget, retain and utility are texts, so "
                f"give every question set a name of its own"
            )
        self.text_column = text_column
        self.question_column = question_column
        self.choices_column = choices_column
        self.answer_column = answer_column
        self.min_characters = min_characters
        self.limits = {"forget": limit_forget, "retain": limit_retain}
        self.text_probes = text_probes
        self.question_probes = question_probes
        self.sample_seed = sample_seed

    def load(self) -> Task:
        """Read corpora and questions.

        Raises:
            MisconfigurationError: A file, a column or a row is not usable.
        """
        rows = {role: self._texts(role, source) for role, source in self.corpora.items()}
        streams = {role: texts[: self.limits[role]] for role, texts in rows.items()}
        unseen = rows["retain"][len(streams["retain"]) :] if "retain" in rows else []
        texts = [
            Probe(role, "text", sample, role, self.template)
            for role, examples in {**streams, "utility": unseen}.items()
            if (sample := self._sample(examples, self.text_probes))
        ]
        asked = [
            Probe(name, "multiple_choice", self._choices(f"{_ARGUMENTS[role]}.{name}", source), role, self.template)
            for role, sets in self.questions.items()
            for name, source in sets.items()
        ]
        return Task(streams, [*texts, *asked])

    def _texts(self, role: str, source: RecordSource) -> list[Example]:
        """The texts to train on, and of retain some that follow."""
        table = _text_folder(local_path(source.path))
        column = TEXT_COLUMN if table is not None else text_column_of(source, self.text_column)
        table = table or read_records(source, role)
        every = table.optional_texts(column)
        long = [text for text in every if text is not None and len(text) >= self.min_characters]
        if len(long) < len(every):
            logger.info(
                "%d of %d %s texts are shorter than min_characters=%d and left out",
                len(every) - len(long), len(every), role, self.min_characters,
            )  # fmt: skip
        if not long:
            raise MisconfigurationError(
                f"WMDPDataModule: none of the {len(every)} texts of {table.name} has min_characters="
                f"{self.min_characters}; lower it, or give {role} another corpus"
            )
        long = list(dict.fromkeys(long))  # what is held back for probes must not be trained on under another number
        limit = self.limits[role]
        if limit is not None:
            long = long[: limit + (self.text_probes if role == "retain" else 0)]
        cut = cut_texts(long, self.tokenizer, max(1, self.max_tokens - len(beginning_of_text(self.tokenizer))))
        return [Example(text, index=index) for index, text in enumerate(cut)]

    def _choices(self, name: str, source: RecordSource) -> list[Example]:
        table = read_records(source, name)
        if not table.rows:
            raise MisconfigurationError(f"{name}: {table.name} has no rows; give a file with at least one")
        questions, choices = table.texts(self.question_column), table.text_lists(self.choices_column)
        rows: list[Example] = []
        rights = table.values(self.answer_column)
        for number, question, options, right in zip(table.numbers, questions, choices, rights, strict=True):
            if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(options) > 1:
                raise MisconfigurationError(
                    f"{name}: {table.unit} {number} of {table.name} has {right!r:.40} in the column "
                    f"{self.answer_column!r} and {len(options)} choices; write the number of the right one of at least "
                    f"two, counted from 0"
                )
            false = tuple(option for place, option in enumerate(options) if place != right)
            rows.append(Example(options[right], question, len(rows), perturbed=false))
        return self._sample(rows, self.question_probes)

    def _sample(self, rows: list[Example], limit: int | None) -> list[Example]:
        """At most `limit` rows, drawn by `sample_seed`, in order."""
        if limit is None or limit >= len(rows):
            return rows
        return [rows[place] for place in sorted(Random(self.sample_seed).sample(range(len(rows)), limit))]


def _text_folder(folder: Path) -> RecordTable | None:
    """The .txt files of a folder, a text each, in the order of their names; `None` if it is no folder of such files."""
    paths = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    rows = [{TEXT_COLUMN: read_text(path.absolute()).strip()} for path in paths]
    return RecordTable(str(folder.absolute()), rows, range(1, len(rows) + 1), "file") if rows else None


def _as_source(source: str | RecordSource) -> RecordSource:
    return source if isinstance(source, RecordSource) else RecordSource(source)
