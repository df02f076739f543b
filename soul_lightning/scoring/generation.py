"""Batched generation: shared contexts run once, rows that are done make room."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.adapters import under_adapters
from soul_lightning.networks.forward import head_sees_only
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.progress import counted
from soul_lightning.protocols import Example
from soul_lightning.scoring.prompts import Prompt, PromptBatch, encode_prompts, group_prompts
from soul_lightning.scoring.ranks import Ranks
from soul_lightning.scoring.sampling import Sampling
from soul_lightning.templates import PromptTemplate

TAIL_TOKENS = 16
"""So many last tokens are decoded to look for the stop text: a whole answer each time would cost its square."""

CACHE_ARGUMENTS = ("cache", "past_key_values")
"""The names that keys and values go by in transformers, newest first."""


@torch.no_grad()
def generated_answers(
    network: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    template: PromptTemplate,
    *,
    max_new_tokens: int = 16,
    batch_size: int = 32,
    stop: str | None = "\n",
    ranks: Ranks | None = None,
    sampling: Sampling | None = None,
) -> list[str]:
    """Greedy or drawn answers, the same as asking for one row at a time (up to rounding of the network's arithmetic).

    Rows of like length share a batch and are padded on the left. A context that several rows share is run once, and
    its keys and values are copied for each batch. A row that is done leaves its batch. Networks whose keys and values
    cannot be kept or cut (no cache, no explicit positions, recurrent states) compute the whole text at each token.

    Args:
        network: A causal language model; runs in evaluation mode.
        tokenizer: Its tokenizer.
        examples: Rows with a prompt, a context or both.
        template: How prompts are written.
        max_new_tokens: Most tokens of an answer; fewer where the network's positions end sooner behind the longest
            prompt.
        batch_size: Most rows in a batch.
        stop: An answer ends before this text; none goes on to the end of text.
        ranks: The processes that share the batches; all of them must call this.
        sampling: How tokens are drawn; the likeliest ones if it is not given.

    Returns:
        The answers in the order of `examples`, without outer white space and without special tokens.

    Raises:
        MisconfigurationError: A setting is out of range, or a prompt is empty or too long for the network.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise MisconfigurationError(
            f"max_new_tokens and batch_size must be >= 1 to generate, got {max_new_tokens} and {batch_size}"
        )
    prompts = encode_prompts(examples, tokenizer, template)
    max_new_tokens = _fitting_tokens(network, prompts, max_new_tokens)
    ranks = ranks or Ranks()
    indices = [example.index for example in examples]
    decoder = _Decoder(network, tokenizer, _end_tokens(network, tokenizer), stop, max_new_tokens, sampling, indices)
    answers: dict[int, str] = {}
    own = ranks.share(list(group_prompts(prompts, batch_size)))
    total = sum(len(batch) for _, batch in own)
    with evaluation_mode(network), counted("asking", total, "questions") as advance:
        for prompt, tokens in decoder.answer(own):
            text = str(tokenizer.decode(tokens, skip_special_tokens=True))
            answers[prompt.position] = (text.split(stop)[0] if stop else text).strip()
            advance(1)
    answers = ranks.gather(answers)
    return [answers[position] for position in range(len(examples))]


def _end_tokens(network: nn.Module, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """End-of-text tokens of the tokenizer and of the network's own settings (chat models name several)."""
    settings = getattr(network, "generation_config", None)
    named = getattr(settings, "eos_token_id", None)
    ends = set(named) if isinstance(named, list) else {named}
    return {int(token) for token in ends | {tokenizer.eos_token_id} if isinstance(token, int)}


def _fitting_tokens(network: nn.Module, prompts: Sequence[Prompt], max_new_tokens: int) -> int:
    limit = getattr(getattr(network, "config", None), "max_position_embeddings", None)
    longest = max((len(prompt) for prompt in prompts), default=0)
    if not isinstance(limit, int) or longest + max_new_tokens <= limit:
        return max_new_tokens
    if longest >= limit:
        raise MisconfigurationError(
            f"the longest prompt has {longest} tokens, which leaves no room for an answer within the {limit} positions "
            f"of the network; shorten the prompt or its context"
        )
    return limit - longest


def cache_argument(network: nn.Module) -> str | None:
    """Under which name keys and values are given back to `network`; none where it takes none, or no positions.

    The name of its output's field is the same. transformers renamed it in 5.24.
    """
    forward: Callable[..., object] = under_adapters(network).forward
    names = set(inspect.signature(forward).parameters)
    if not {"position_ids", "use_cache"} <= names:
        return None
    return next((name for name in CACHE_ARGUMENTS if name in names), None)


@dataclass
class _Decoder:
    """Decodes batches of prompts with one network."""

    network: nn.Module
    tokenizer: PreTrainedTokenizerBase
    ends: set[int]
    stop: str | None
    max_new_tokens: int
    sampling: Sampling | None
    indices: Sequence[int]

    def answer(self, batches: Sequence[PromptBatch]) -> Iterator[tuple[Prompt, list[int]]]:
        """Each prompt with the tokens that follow it; a prefix runs once for neighbouring batches that share it."""
        argument = cache_argument(self.network)
        for prefix, group in groupby(batches, key=lambda batch: batch[0]):
            shared = self._run_prefix(prefix, argument) if argument and prefix else None
            for _, batch in group:
                rows = batch if shared is not None else [prompt.whole() for prompt in batch]
                answers = self._decode_cached(rows, shared, argument) if argument else None
                argument = argument if answers is not None else None
                yield from zip(batch, answers if answers is not None else self._decode_uncached(rows), strict=True)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _run_prefix(self, prefix: Sequence[int], argument: str) -> Cache | None:
        """Keys and values of a shared context, or none where padding after it would shift what a row sees."""
        input_ids = torch.tensor([prefix], device=self._device)
        keep = torch.zeros_like(input_ids, dtype=torch.bool)
        keep[:, -1] = True
        with head_sees_only(self.network, keep):
            output = self.network(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), use_cache=True)
        cache = getattr(output, argument)
        return cache if consists_of(cache, DynamicLayer) else None

    def _decode_cached(self, rows: Sequence[Prompt], shared: Cache | None, argument: str) -> list[list[int]] | None:
        """Decode with kept keys and values; none where the network turns out not to keep any that can be cut."""
        input_ids, mask = self._pad_left(rows)
        cache = None
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(rows))
        answers: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))
        while True:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
            keep = torch.zeros_like(input_ids, dtype=torch.bool)
            keep[:, -1] = True
            with head_sees_only(self.network, keep):
                output = self.network(
                    input_ids=input_ids,
                    attention_mask=mask,
                    position_ids=positions,
                    use_cache=True,
                    **{argument: cache},
                )
            cache = getattr(output, argument)
            if not consists_of(cache, DynamicLayer, DynamicSlidingWindowLayer):
                return None
            going_on = self._append(answers, active, rows, _last_logits(output.logits, keep))
            if not going_on:
                return answers
            if len(going_on) < len(active):
                kept = torch.tensor(going_on, device=mask.device)
                cache.batch_select_indices(kept)
                mask = mask[kept]
                active = [active[place] for place in going_on]
            input_ids = torch.tensor([[answers[row][-1]] for row in active], device=mask.device)
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)

    def _pad_left(self, rows: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """[batch, tokens] of what follows the shared prefix, and [batch, prefix + tokens] what may be seen."""
        prefix_tokens, width = len(rows[0].prefix), max(len(row.rest) for row in rows)
        input_ids = torch.full((len(rows), width), self.tokenizer.pad_token_id or 0, dtype=torch.int64)
        mask = torch.zeros((len(rows), prefix_tokens + width), dtype=torch.int64)
        mask[:, :prefix_tokens] = 1
        for number, row in enumerate(rows):
            input_ids[number, width - len(row.rest) :] = torch.tensor(row.rest)
            mask[number, prefix_tokens + width - len(row.rest) :] = 1
        return input_ids.to(self._device), mask.to(self._device)

    def _decode_uncached(self, rows: Sequence[Prompt]) -> list[list[int]]:
        """Decode by running the whole text at each token; padded on the right, which no earlier token sees."""
        answers: list[list[int]] = [[] for _ in rows]
        active = list(range(len(rows)))
        while active:
            texts = [[*rows[row].prefix, *rows[row].rest, *answers[row]] for row in active]
            width = max(map(len, texts))
            input_ids = torch.full((len(texts), width), self.tokenizer.pad_token_id or 0, dtype=torch.int64)
            mask = torch.zeros((len(texts), width), dtype=torch.int64)
            keep = torch.zeros((len(texts), width), dtype=torch.bool)
            for number, text in enumerate(texts):
                input_ids[number, : len(text)] = torch.tensor(text)
                mask[number, : len(text)] = 1
                keep[number, len(text) - 1] = True
            keep = keep.to(self._device)
            with head_sees_only(self.network, keep):
                output = self.network(
                    input_ids=input_ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
                )
            going_on = self._append(answers, active, rows, _last_logits(output.logits, keep))
            active = [active[place] for place in going_on]
        return answers

    def _append(
        self, answers: list[list[int]], active: Sequence[int], rows: Sequence[Prompt], logits: Tensor
    ) -> list[int]:
        """Add a token to each active row, of `logits` [active, vocabulary]; the places in `active` that go on."""
        if self.sampling is None:
            chosen = logits.argmax(dim=-1)
        else:
            indices = torch.tensor([self.indices[rows[row].position] for row in active], device=logits.device)
            chosen = self.sampling.tokens(logits, indices, step=len(answers[active[0]]))
        tokens = chosen.tolist()
        for row, token in zip(active, tokens, strict=True):
            answers[row].append(token)
        tails = [answers[row][-TAIL_TOKENS:] for row in active]
        texts = self.tokenizer.batch_decode(tails, skip_special_tokens=True) if self.stop else [""] * len(tails)
        return [
            place
            for place, (row, token, text) in enumerate(zip(active, tokens, texts, strict=True))
            if token not in self.ends
            and len(answers[row]) < self.max_new_tokens
            and not (self.stop and self.stop in text)
        ]


def consists_of(cache: object, *kinds: type) -> bool:
    """Whether `cache` holds layers of `kinds` only, whose rows can be copied and taken out one by one.

    Recurrent states are not among them, for padding would run through them; a sliding window counts the padding
    between a shared context and a row's own prompt.
    """
    return isinstance(cache, Cache) and all(type(layer) in kinds for layer in cache.layers)


def _last_logits(logits: Tensor, keep: Tensor) -> Tensor:
    """[batch, vocabulary], from logits at every position or at the kept ones only."""
    return logits[keep] if logits.dim() == 3 else logits
