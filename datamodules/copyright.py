"""Copyright removal: passages of books that a model has learnt by heart, and must not continue any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.checks import check_counts
from soul_lightning.datamodules.copyright_documents import find_documents, read_documents
from soul_lightning.datamodules.copyright_passages import Passage, PassageCutter
from soul_lightning.datamodules.overlap import find_overlap
from soul_lightning.datamodules.retain_texts import Retained, RetainTexts
from soul_lightning.datamodules.sampling import shuffled
from soul_lightning.datamodules.task import Task
from soul_lightning.encoding import beginning_of_text
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example, Probe
from soul_lightning.records.sources import RecordSource
from soul_lightning.templates import PromptTemplate

PASSAGE_TEMPLATE = PromptTemplate(prompt="{prompt}", answer="{answer}", end_of_text=False)
"""Prompt and continuation as they stand in the document, which goes on after them."""
FEWEST_TOKENS = 4
"""A character takes up to four tokens, and is never split."""


class CopyrightDataModule(StreamDataModule):
    """Passages of any plain-text documents to forget, other text to retain (SOUL's copyright removal, Jia et al. 2024).

    Documents are cut by the trained module's tokenizer into passages: a prompt and its continuation, at token borders,
    from places that do not overlap and are spread over all documents. Some are held out: the same books, never trained
    on. Which ones depends on `sample_seed` alone, so that a run that memorises (`labels: all`) and a later one that
    unlearns meet the same passages, provided that they share the tokenizer and the settings up to `strip_gutenberg`.

    The probes are the same whatever is labelled: `forget` and `holdout` (likelihood of the continuations),
    `forget_continuations` and `holdout_continuations` (the same rows, to be generated), `retain` and `utility` (retain
    texts trained on, and never seen).

    Args:
        documents: A text file (UTF-8), a list of them, or a folder whose .txt files are taken.
        passages: Train on so many passages.
        holdout_passages: Hold so many back, chosen at random among all.
        prompt_tokens: Fewest and most tokens of a prompt, each drawn; one number gives all that length.
        continuation_tokens: Tokens of a continuation.
        labels: What the forget stream trains on: `continuation` labels what follows the prompt, `all` the whole passage
            as plain text, for the fine-tune that memorises it.
        strip_gutenberg: Take off Project Gutenberg's header and licence where a document has them.
        retain: Text to keep: a file with a column `text`, a .txt file, or a Hugging Face data set. Of a large one take
            the beginning, `{path: allenai/c4, subset: en, first_rows: 5000}`, or set `streamed: true` there: then its
            texts are read as training needs them, and those that also stand in forget are left out.
        retain_rows: Train on so many retain texts, chosen at random; all but a tenth of them if none is given. Of a
            streamed source the first so many, or all.
        retain_tokens: Cut every retain text after so many tokens.
        text_probes: Most texts in the retain probe and in the utility probe.
        sample_seed: Seed of which passages and texts are taken; runs that are compared share it.
        **options: Settings that every DataModule has, see `StreamDataModule`.

    Raises:
        MisconfigurationError: A setting is out of range, or a file is missing.
    """

    default_template = PASSAGE_TEMPLATE

    def __init__(
        self,
        documents: str | list[str],
        passages: int = 200,
        holdout_passages: int = 100,
        prompt_tokens: int | tuple[int, int] = (50, 300),
        continuation_tokens: int = 200,
        labels: Literal["continuation", "all"] = "continuation",
        strip_gutenberg: bool = True,
        retain: str | RecordSource | None = None,
        retain_rows: int | None = None,
        retain_tokens: int | None = None,
        text_probes: int = 64,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        fewest, most = (prompt_tokens, prompt_tokens) if isinstance(prompt_tokens, int) else prompt_tokens
        check_counts(
            "CopyrightDataModule",
            passages=(passages, 1),
            holdout_passages=(holdout_passages, 0),
            prompt_tokens=(fewest, FEWEST_TOKENS),
            continuation_tokens=(continuation_tokens, FEWEST_TOKENS),
            text_probes=(text_probes, 0),
        )
        if fewest > most:
            raise MisconfigurationError(
                f"CopyrightDataModule: prompt_tokens must be [fewest, most], got [{fewest}, {most}]"
            )
        if labels not in ("continuation", "all"):
            raise MisconfigurationError(f"CopyrightDataModule: labels must be continuation or all, got {labels!r}")
        self.files = find_documents([documents] if isinstance(documents, str) else documents)
        self.passages = passages
        self.holdout_passages = holdout_passages
        self.prompt_tokens = (fewest, most)
        self.continuation_tokens = continuation_tokens
        self.labels = labels
        self.strip_gutenberg = strip_gutenberg
        self.text_probes = text_probes
        self.sample_seed = sample_seed
        self.retain = (
            RetainTexts("CopyrightDataModule", retain, retain_rows, retain_tokens, text_probes, sample_seed)
            if retain is not None
            else None
        )

    def load(self) -> Task:
        """Read the documents and cut them.

        Raises:
            MisconfigurationError: A file is unfit, the documents are too short, or a passage stands in them twice.
        """
        forget, holdout = self._passages()
        retained = self.retain.read(self.tokenizer) if self.retain is not None else Retained()
        trained = forget if self.labels == "continuation" else [_as_plain_text(example) for example in forget]
        probes = [
            Probe("forget", "text", forget, "forget", self.template),
            Probe("forget_continuations", "question", forget, "forget", self.template, rows_of="forget"),
            Probe("holdout", "text", holdout, "holdout", self.template),
            Probe("holdout_continuations", "question", holdout, "holdout", self.template, rows_of="holdout"),
            Probe("retain", "text", retained.seen, "retain", self.template),
            Probe("utility", "text", retained.unseen, "utility", self.template),
        ]
        streams = {"forget": trained, **retained.trained}
        return Task(streams, [probe for probe in probes if probe.examples], retained.streamed)

    def _passages(self) -> tuple[list[Example], list[Example]]:
        """The passages to train on and those held out; each keeps its number among all, so that none is in both."""
        cutter = PassageCutter(self.tokenizer, self.prompt_tokens, self.continuation_tokens, self.sample_seed)
        begin, end = len(beginning_of_text(self.tokenizer)), int(self.template.end_of_text)
        if begin + cutter.longest + end > self.max_tokens:
            raise MisconfigurationError(
                f"CopyrightDataModule: max_tokens={self.max_tokens} would cut passages of {cutter.longest} tokens "
                f"(with {begin + end} for the text's begin and end); raise it, or lower prompt_tokens or "
                f"continuation_tokens"
            )
        documents = read_documents(self.files, self.strip_gutenberg)
        cut = _examples(cutter.cut(documents, self.passages + self.holdout_passages))
        held_out = set(shuffled(range(len(cut)), f"{self.sample_seed}/holdout")[: self.holdout_passages])
        forget = [example for example in cut if example.index not in held_out]
        holdout = [example for example in cut if example.index in held_out]
        overlap = find_overlap(forget, holdout)
        if overlap and not self.allow_overlap:
            raise MisconfigurationError(
                f"CopyrightDataModule: {overlap.facts} of {overlap.of_facts} passages to train on also stand in "
                f"holdout, for the documents repeat themselves; remove the repetitions, or set allow_overlap to go on"
            )
        return forget, holdout


def _examples(passages: list[Passage]) -> list[Example]:
    # Intervals resample by subject: one part alone would leave them without any width.
    several = len({passage.part for passage in passages}) > 1
    return [
        Example(passage.continuation, passage.prompt, index, subject=passage.part if several else None)
        for index, passage in enumerate(passages)
    ]


def _as_plain_text(example: Example) -> Example:
    return replace(example, prompt="", answer=example.prompt + example.answer)
