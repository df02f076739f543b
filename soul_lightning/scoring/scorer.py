"""One teacher-forced pass over rows, which every teacher-forced metric reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from soul_lightning.encoding import EncodedExample, collate, encode
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.token_statistics import TokenStatistics
from soul_lightning.progress import tracked
from soul_lightning.protocols import Example
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.shared_prefixes import PrefixGroup, prefix_groups
from soul_lightning.templates import PromptTemplate


@dataclass(frozen=True, slots=True)
class ExampleScore:
    """What the model says of one row.

    Attributes:
        index: `Example.index`.
        statistics: What is said of each labelled token, float32 at least, on the CPU.
    """

    index: int
    statistics: TokenStatistics

    @property
    def tokens(self) -> int:
        """How many tokens are labelled."""
        return len(self.statistics)

    @property
    def nll(self) -> float:
        """−Σ log p over the labelled tokens, in nats."""
        return -float(self.statistics.log_probs.double().sum())

    @property
    def mean_nll(self) -> float:
        """Nats a labelled token."""
        return self.nll / self.tokens

    @property
    def probability(self) -> float:
        """exp(−NLL/|y|), the geometric mean of the token probabilities."""
        return math.exp(-self.mean_nll)


def rows_of(batch: Sequence[PrefixGroup]) -> int:
    """How many rows a batch of groups has."""
    return sum(len(group.places) for group in batch)


@dataclass(frozen=True)
class Scorer:
    """Scores rows in batches of like length; only logits at labelled positions are computed.

    One pass serves every teacher-forced metric. What rows of one prompt share (the beginnings of their answers too) is
    run once where the network's keys and values can be copied. The processes of `adapter.ranks` share the batches, so
    that each of them must call the scorer; all get all scores.

    Attributes:
        adapter: The model.
        token_budget: Most tokens in a batch, padding included; a longer row goes alone.
        max_tokens: Longer rows are cut on the right.
    """

    adapter: CausalLMAdapter
    token_budget: int = 2048
    max_tokens: int = 512

    def __post_init__(self) -> None:
        """Refuse budgets that hold nothing."""
        if self.token_budget < 1 or self.max_tokens < 2:
            raise MisconfigurationError(
                f"token_budget must be >= 1 and max_tokens >= 2, got {self.token_budget} and {self.max_tokens}"
            )

    def __call__(self, examples: Sequence[Example], template: PromptTemplate | None = None) -> list[ExampleScore]:
        """Score rows.

        Args:
            examples: The rows.
            template: How prompts and answers are written; the default template if none is given.

        Returns:
            One score a row, in order; rows whose answer is cut away entirely by `max_tokens` are left out.

        Raises:
            MisconfigurationError: `max_tokens` cuts away every answer.
        """
        tokenizer = self.adapter.tokenizer
        rows = encode(examples, tokenizer, template, self.max_tokens)
        ranks = self.adapter.ranks
        scores: dict[int, ExampleScore] = {}
        shares = True
        for batch in tracked(ranks.share(list(self._batches(rows))), "scoring", "rows", rows_of):
            found = None
            if shares and batch[0].tokens:
                found = self.adapter.prefixed_statistics(rows, batch)
                shares = found is not None
            if found is None:
                places = [place for group in batch for place in group.places]
                padded = collate([rows[place] for place in places], tokenizer.pad_token_id or 0)
                found = {places[row]: each for row, each in self.adapter.token_statistics(padded).items()}
            scores |= {place: ExampleScore(rows[place].index, each) for place, each in found.items()}
        scores = ranks.gather(scores)
        return [scores[place] for place in sorted(scores)]

    def _batches(self, rows: Sequence[EncodedExample]) -> Iterator[list[PrefixGroup]]:
        """Rows that are scored whole, then groups that share; the longest first, so that memory runs out early."""
        groups = prefix_groups(rows, self.token_budget)
        for shares in (False, True):
            batch: list[PrefixGroup] = []
            size = width = 0
            chosen = [group for group in groups if bool(group.tokens) == shares]
            for group in sorted(chosen, key=lambda group: (group.tokens - group.longest, group.places[0])):
                if batch and (size + len(group.places)) * max(width, group.longest) > self.token_budget:
                    yield batch
                    batch, size, width = [], 0, 0
                batch.append(group)
                size, width = size + len(group.places), max(width, group.longest)
            if batch:
                yield batch
