"""The few contracts that rooms share: examples, batches, steps, probes and who supplies them.

Arrows point one way: DataModules make these values, modules train on them, callbacks measure with them, and none of the
three imports another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.templates import PromptTemplate

IGNORE_INDEX = -100
"""The label of a token that no loss and no metric reads."""

View = Literal["answer", "refusal", "other_answer", "every_position"]
"""Which text of a row an objective reads: its own answer; the same prompt with a refusal, or with the answer of another
row; or its own text with every position labelled, prompt and padding too."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a text states: `subject` stands in `relation` to `object`."""

    subject: str
    relation: str
    object: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The fact without regard to case and outer white space, for comparing facts across texts."""
        return (self.subject.strip().casefold(), self.relation.strip().casefold(), self.object.strip().casefold())


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: Who speaks.
        text: What is said.
    """

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of text: a prompt with its answer, or plain text (an empty prompt).

    Attributes:
        answer: What is labelled. With an empty `prompt` the whole text.
        prompt: What stands before the answer and is never labelled.
        index: The row's number, unique in its stream or probe set; seeds and caches are keyed by it.
        context: Text before the prompt that many examples share (in-context examples); its keys and values are computed
            once when answers are generated.
        aliases: Other answers that count as true.
        perturbed: Answers that count as false (the corrupted objects, or TOFU's perturbed answers).
        false_text: Text that states false things of the subject; a wrong answer that stands in it word for word, within
            one line, counts as false. For corruptions that come as prose, without a list of false objects.
        paraphrase: The true answer in other words.
        refusal: An answer that declines.
        subject: The entity that the row is about; the unit of resampling.
        relation: The relation that the row asks for.
        facts: What the row states, for the overlap check between forget and retain.
        turns: What was said before the prompt: perhaps a system message, then prompts and answers in turn. Never
            labelled where answers are.
        is_cut: The answer was cut off, so that no end follows it.
    """

    answer: str
    prompt: str = ""
    index: int = 0
    context: str = ""
    aliases: tuple[str, ...] = ()
    perturbed: tuple[str, ...] = ()
    false_text: str = ""
    paraphrase: str | None = None
    refusal: str | None = None
    subject: str | None = None
    relation: str | None = None
    facts: tuple[Fact, ...] = ()
    turns: tuple[Turn, ...] = ()
    is_cut: bool = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every answer that counts as true, the main one first."""
        return (self.answer, *self.aliases)


@dataclass(slots=True)
class Batch:
    """Encoded rows, padded to the longest of them.

    Attributes:
        input_ids: [batch, tokens] token ids.
        attention_mask: [batch, tokens] 1 for a token, 0 for padding.
        labels: [batch, tokens] the token id where it is labelled, `IGNORE_INDEX` elsewhere; *unshifted*: the label at
            position t is predicted from the tokens before t.
        index: [batch] `Example.index` of each row.
        alternatives: Other texts of the same rows, by `View`; only those that the trained module asked for.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    index: Tensor
    alternatives: Mapping[str, Batch] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same rows on `device` (Lightning moves batches through this method)."""
        return Batch(
            self.input_ids.to(device, non_blocking=non_blocking),
            self.attention_mask.to(device, non_blocking=non_blocking),
            self.labels.to(device, non_blocking=non_blocking),
            self.index.to(device, non_blocking=non_blocking),
            {view: other.to(device, non_blocking=non_blocking) for view, other in self.alternatives.items()},
        )

    @property
    def tokens_per_row(self) -> Tensor:
        """[batch] tokens of each row that are predicted and labelled (the first position has nothing before it)."""
        return (self.labels[:, 1:] != IGNORE_INDEX).sum(dim=1)

    @property
    def labelled_tokens(self) -> int:
        """How many tokens are predicted and labelled."""
        return int(self.tokens_per_row.sum())

    @property
    def labelled_sequences(self) -> int:
        """How many rows have at least one labelled token."""
        return int((self.tokens_per_row > 0).sum())

    def rows(self, rows: Tensor) -> Batch:
        """The rows of these numbers, cut to the longest of them.

        Args:
            rows: [rows] int64 places in the batch.
        """
        width = int(self.attention_mask[rows].any(dim=0).nonzero().max()) + 1 if len(rows) else 0
        return Batch(
            self.input_ids[rows, :width],
            self.attention_mask[rows, :width],
            self.labels[rows, :width],
            self.index[rows],
            {view: other.rows(rows) for view, other in self.alternatives.items()},
        )

    def without_labels(self) -> Batch:
        """The same rows with nothing to predict: for a process that must take part, and has nothing to say."""
        others = {view: other.without_labels() for view, other in self.alternatives.items()}
        return replace(self, labels=torch.full_like(self.labels, IGNORE_INDEX), alternatives=others)

    def split(self, parts: int) -> Iterator[Batch]:
        """At most `parts` micro-batches of neighbouring rows, each cut to its own longest row."""
        for rows in torch.arange(len(self), device=self.index.device).chunk(parts):
            yield self.rows(rows)

    def seen_as(self, views: Sequence[View]) -> Batch:
        """The batch as an objective reads it: the first view is the batch itself, the others its alternatives.

        Raises:
            MisconfigurationError: A text is asked for that the rows do not have.
        """
        first, *others = (self._seen_as(view) for view in views)
        return replace(first, alternatives=dict(zip(views[1:], others, strict=True)))

    def _seen_as(self, view: View) -> Batch:
        if view == "answer":
            return replace(self, alternatives={})
        if view == "every_position":
            has_labels = (self.tokens_per_row > 0)[:, None]
            labels = self.input_ids.where(has_labels, torch.full_like(self.labels, IGNORE_INDEX))
            return replace(self, labels=labels, alternatives={})
        if view not in self.alternatives:
            raise MisconfigurationError(
                f"the objective reads each row's {view}, and the rows carry {', '.join(self.alternatives) or 'none'}; "
                f"use a DataModule of this package, or fill Batch.alternatives[{view!r}]"
            )
        return self.alternatives[view]


@dataclass(slots=True)
class Step:
    """What one optimizer step trains on: one batch of each stream (`forget`, `retain`, …) on this process.

    How many backward passes a batch is cut into is the module's affair (`micro_batches`), and so are the totals over
    ranks: a step only says which rows belong together.

    Attributes:
        batches: By stream.
        request: The request that the forget rows belong to, where it changes during the run.
    """

    batches: Mapping[str, Batch] = field(default_factory=dict)
    request: int | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Step:
        """The same step on `device`."""
        moved = {name: batch.to(device, non_blocking=non_blocking) for name, batch in self.batches.items()}
        return replace(self, batches=moved)


@dataclass(frozen=True, slots=True)
class Probe:
    """A named set of examples on which something is measured.

    Attributes:
        name: What the set is called in metric names (`corrupted`, `control`, `holdout`, …).
        kind: What may be asked of it: `question` (generate and judge), `text` (score the likelihood),
            `multiple_choice` (score `answer` against each of `perturbed`), `prompt` (generate; there are no answers).
        examples: The rows.
        role: Where the set stands in the story: `corrupted` (facts that were overwritten), `control` (facts that were
            not), `forget`, `holdout` (like forget, never trained on), `retain`, `utility` (held out, must stay),
            `toxicity` (prompts that provoke).
        template: How prompts and answers are written when the set is encoded.
        rows_of: Name of the probe whose rows this one asks in another way: what is scored as text there is asked as a
            question here. Of several, the first asks in the rows' own words.
    """

    name: str
    kind: str
    examples: Sequence[Example]
    role: str
    template: PromptTemplate = field(default_factory=PromptTemplate)
    rows_of: str = ""


@runtime_checkable
class SuppliesProbes(Protocol):
    """Anything (usually a DataModule) that has probe sets."""

    def probes(self) -> Sequence[Probe]:
        """The probe sets, ready after `setup`."""
        ...


@runtime_checkable
class SuppliesSummary(Protocol):
    """Anything (usually a callback) that has numbers for the run's summary."""

    def summary(self) -> Mapping[str, float | None]:
        """Flat metric names and the last numbers measured; `None` where a number has no meaning."""
        ...


@runtime_checkable
class ReadsViews(Protocol):
    """Anything (usually a LightningModule) that reads more of a stream's rows than their own answers."""

    def views(self) -> Mapping[str, Sequence[View]]:
        """The texts that are read, by stream."""
        ...


@runtime_checkable
class SuppliesStreams(Protocol):
    """Anything (usually a DataModule) whose training rows can be read outside of the training loop."""

    def stream(self, name: str) -> Iterator[Batch]:
        """Every row of one training stream once, in batches; for what is computed before training."""
        ...


@dataclass(frozen=True, slots=True)
class StreamSize:
    """How much a training stream holds, as it is trained on; none where nobody knows before it is read.

    Attributes:
        rows: Rows.
        tokens: Tokens of all rows.
        labelled_tokens: Those of them that carry a label.
    """

    rows: int | None = None
    tokens: int | None = None
    labelled_tokens: int | None = None


@runtime_checkable
class SuppliesSizes(Protocol):
    """Anything (usually a DataModule) that knows how large its training streams are."""

    def stream_sizes(self) -> Mapping[str, StreamSize]:
        """The size of each stream, ready after `setup`."""
        ...
