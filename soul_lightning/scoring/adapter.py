"""A causal language model and its tokenizer, as every metric sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from soul_lightning.encoding import EncodedExample
from soul_lightning.metrics.token_statistics import TokenStatistics, token_statistics
from soul_lightning.networks.forward import label_predictions
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.protocols import Batch, Example
from soul_lightning.scoring.generation import generated_answers
from soul_lightning.scoring.ranks import Ranks
from soul_lightning.scoring.sampling import Sampling
from soul_lightning.scoring.shared_prefixes import PrefixGroup, prefixed_statistics
from soul_lightning.templates import PromptTemplate


@dataclass(frozen=True)
class CausalLMAdapter:
    """What a metric may ask of a model: what it says of given tokens, and an answer.

    Attributes:
        network: A causal language model: `forward(input_ids, attention_mask, use_cache)` gives `.logits`.
        tokenizer: Its tokenizer.
        ranks: The processes that share the work.
    """

    network: nn.Module
    tokenizer: PreTrainedTokenizerBase
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def token_statistics(self, batch: Batch) -> dict[int, TokenStatistics]:
        """Teacher-forced statistics of the labelled tokens, in evaluation mode.

        Args:
            batch: Encoded rows, [batch, tokens], on any device.

        Returns:
            For each row that has a label, by its place in the batch, statistics on the CPU, in float32 at least.
        """
        with evaluation_mode(self.network):
            statistics = token_statistics(label_predictions(self.network, batch.to(self.device)))
        return {place: row.cpu() for place, row in statistics.items()}

    def prefixed_statistics(
        self, rows: Sequence[EncodedExample], groups: Sequence[PrefixGroup]
    ) -> dict[int, TokenStatistics] | None:
        """The same of rows that share beginnings, each beginning run once.

        Args:
            rows: All rows that are scored.
            groups: Groups of a batch, each with a prefix.

        Returns:
            Statistics on the CPU by the places of the rows; none where the network keeps nothing that can be shared.
        """
        with evaluation_mode(self.network):
            found = prefixed_statistics(self.network, rows, groups, self.tokenizer.pad_token_id or 0)
        return {place: row.cpu() for place, row in found.items()} if found is not None else None

    def generate(
        self,
        examples: Sequence[Example],
        template: PromptTemplate,
        max_new_tokens: int = 16,
        batch_size: int = 32,
        stop: str | None = "\n",
        sampling: Sampling | None = None,
    ) -> list[str]:
        """Answers to the prompts of `examples`, see `soul_lightning.scoring.generation.generated_answers`."""
        return generated_answers(
            self.network,
            self.tokenizer,
            examples,
            template,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            stop=stop,
            ranks=self.ranks,
            sampling=sampling,
        )
