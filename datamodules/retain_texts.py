"""Texts to keep: some are trained on, others of the same source never seen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from transformers import PreTrainedTokenizerBase

from soul_lightning.datamodules.sampling import shuffled
from soul_lightning.datamodules.streamed_rows import StreamedRows
from soul_lightning.encoding import cut_texts
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.protocols import Example
from soul_lightning.records.sources import RecordSource, check_source, read_records
from soul_lightning.records.table import TEXT_COLUMN, RecordTable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retained:
    """Texts by what they are for, numbered through, so that no index stands for two of them.

    Attributes:
        trained: The `retain` stream, if it is in memory.
        streamed: The `retain` stream, if it is not.
        seen: Some of those trained on.
        unseen: Others, never trained on.
    """

    trained: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    streamed: Mapping[str, StreamedRows] = field(default_factory=dict)
    seen: Sequence[Example] = ()
    unseen: Sequence[Example] = ()


@dataclass(frozen=True)
class RetainTexts:
    """What is read of a source of plain texts.

    Of a source in memory the texts are chosen at random, each once. Of a streamed one the first serve as unseen texts,
    and those behind them are trained on, in every pass; a text that stands there twice is met twice.

    Attributes:
        owner: The DataModule, for messages.
        source: Where the texts are: a path, a data set's name, or a `RecordSource`; the column is `text` unless it
            names another.
        rows: Train on so many texts; if none is given, on all but a tenth, or on all that are streamed.
        tokens: Cut every text after so many tokens. What is cut has no end that could be learned.
        probes: At most so many texts for each probe: of those trained on, and of others.
        seed: Seed of the choice.

    Raises:
        MisconfigurationError: A setting is out of range, or there is no such file.
    """

    owner: str
    source: str | RecordSource
    rows: int | None = None
    tokens: int | None = None
    probes: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be before anything is read."""
        for name, count in (("retain_rows", self.rows), ("retain_tokens", self.tokens)):
            if count is not None and count < 1:
                raise MisconfigurationError(f"{self.owner}: {name} must be >= 1, got {count}")
        check_source(self._source, "retain")

    @property
    def _source(self) -> RecordSource:
        return self.source if isinstance(self.source, RecordSource) else RecordSource(self.source)

    @property
    def _column(self) -> str:
        return self._source.text_column or TEXT_COLUMN

    def read(
        self,
        tokenizer: PreTrainedTokenizerBase,
        unwanted: Callable[[str], bool] | None = None,
        unwanted_texts: str = "are unwanted",
    ) -> Retained:
        """The texts to train on, and those that are never seen.

        Args:
            tokenizer: Says what a token is, where texts are cut.
            unwanted: Texts to leave out.
            unwanted_texts: What such texts do, for messages: "name an entity asked about".

        Raises:
            MisconfigurationError: The source cannot be read, or has too few different texts.
        """
        if self._source.streamed:
            return self._streamed(tokenizer, unwanted)
        table = read_records(self._source, "retain")
        every = list(dict.fromkeys(table.texts(self._column)))
        texts = [text for text in every if unwanted is None or not unwanted(text)]
        if len(texts) < len(every):
            logger.info("%d retain texts %s and are left out", len(every) - len(texts), unwanted_texts)
        rows = self.rows if self.rows is not None else len(texts) - len(texts) // 10
        if rows > len(texts) or not texts:
            besides = f" besides those that {unwanted_texts}" if len(texts) < len(every) else ""
            raise MisconfigurationError(
                f"{self.owner}: retain_rows={rows}, and {table.name} has {len(texts)} different texts{besides}; "
                f"take fewer, or give more text"
            )
        chosen = shuffled(texts, f"{self.seed}/retain")[: rows + self.probes]
        examples = self._examples(chosen, tokenizer)
        trained = examples[:rows]
        return Retained({"retain": trained}, seen=trained[: self.probes], unseen=examples[rows:])

    def _examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
        kept = cut_texts(texts, tokenizer, self.tokens) if self.tokens is not None else texts
        pairs = enumerate(zip(kept, texts, strict=True))
        return [Example(text, index=index, is_cut=text != whole) for index, (text, whole) in pairs]

    def _streamed(self, tokenizer: PreTrainedTokenizerBase, unwanted: Callable[[str], bool] | None) -> Retained:
        def examples(table: RecordTable) -> list[Example]:
            texts = table.texts(self._column)
            every = zip(self._examples(texts, tokenizer), texts, strict=True)
            return [example for example, text in every if unwanted is None or not unwanted(text)]

        source = StreamedRows(self._source, "retain", examples, (self._column,))
        unseen = source.head(self.probes)
        trained = replace(source, first=unseen[-1].index + 1 if unseen else 0, rows=self.rows)
        seen = trained.head(max(1, self.probes))
        if not seen:
            raise MisconfigurationError(
                f"{self.owner}: {source.name} has {len(unseen)} texts, and text_probes={self.probes} of them are held "
                f"back; lower text_probes, or give more text"
            )
        return Retained(streamed={"retain": trained}, seen=seen[: self.probes], unseen=unseen)
