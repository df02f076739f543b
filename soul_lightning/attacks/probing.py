"""Does a fact still stand inside? Linear probes on hidden states (Alain & Bengio 2016; Belinkov 2022), a layer each.

A probe learns, from questions that a model may answer, to read the words of the answer from the hidden state at the
last token of the prompt, where the answer's first token is predicted. It has no part in what the model says, so that it
also reads what a later layer hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from soul_lightning.encoding import EncodedExample, collate
from soul_lightning.metrics.bootstrap import Array
from soul_lightning.metrics.exchange import (
    Integers,
    ceiling,
    exchanged_means,
    exchanges,
    preferences_by_exchange,
)
from soul_lightning.metrics.judge import normalise
from soul_lightning.networks.modes import evaluation_mode
from soul_lightning.progress import tracked
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.layers import batches_by_length, layer_states
from soul_lightning.scoring.prompts import encode_prompts
from soul_lightning.scoring.scored_model import ScoredModel

States = NDArray[np.float32]
STRENGTHS = np.logspace(-7, 1, 17)
"""Ridge penalties to choose from, as shares of (rows × width), the sum of all squared standardised features."""
CONSTANT = 1e-6
"""A feature whose standard deviation is a smaller share of its size is rounding alone."""


@torch.no_grad()
def prompt_states(model: ScoredModel, probe: Probe) -> States:
    """Hidden states at the last token of each prompt.

    Args:
        model: The model; its processes share the batches.
        probe: Questions, written as their template says.

    Returns:
        [rows, layers, width] float32: of the embeddings, and behind each block.

    Raises:
        MisconfigurationError: The network's blocks cannot be found.
    """
    adapter = model.adapter
    prompts = encode_prompts(probe.examples, adapter.tokenizer, probe.template)
    rows = [
        EncodedExample(torch.tensor(prompt.prefix + prompt.rest), len(prompt), prompt.position) for prompt in prompts
    ]
    found: dict[int, States] = {}
    with model.isolation(), evaluation_mode(adapter.network):
        own = adapter.ranks.share(list(batches_by_length(rows, model.token_budget)))
        for places in tracked(own, "reading hidden states", "rows", len):
            batch = collate([rows[place] for place in places], adapter.tokenizer.pad_token_id or 0).to(adapter.device)
            position = torch.arange(batch.input_ids.shape[1], device=adapter.device)
            is_last = position == batch.attention_mask.sum(dim=1, keepdim=True) - 1
            layers, _ = layer_states(adapter.network, batch, is_last)
            states = torch.stack(layers, dim=1).float().cpu().numpy()
            found |= dict(zip(places, states, strict=True))
    found = adapter.ranks.gather(found)
    return np.stack([found[place] for place in range(len(rows))])


def answer_words(learned: Sequence[str], answers: Sequence[str]) -> Array:
    """Answers as bags of those words that occur in the answers that a probe learns from.

    Args:
        learned: What the probe learns from.
        answers: What is to be written in their words.

    Returns:
        [answers, words] rows of length 1, or of zeros where no word is known: such an answer cannot be read.
    """
    words = {word: place for place, word in enumerate(sorted({word for text in learned for word in normalise(text)}))}
    bags: Array = np.zeros((len(answers), len(words)))
    for row, text in enumerate(answers):
        bags[row, [words[word] for word in normalise(text) if word in words]] = 1.0
    lengths = np.linalg.norm(bags, axis=1, keepdims=True)
    bags /= np.where(lengths > 0, lengths, 1.0)
    return bags


def read(states: Array, words: Array, asked: Array) -> Array:
    """Ridge regression of words on hidden states, its strength chosen by leave-one-out on the rows that it learns from.

    Args:
        states: [learned rows, width] to learn from.
        words: [learned rows, words] their answers.
        asked: [rows, width] hidden states to read.

    Returns:
        [rows, words] what is read of them.
    """
    middle, spread = states.mean(axis=0), states.std(axis=0)
    varies = spread > CONSTANT * np.abs(middle)
    if not varies.any():
        return np.tile(words.mean(axis=0), (len(asked), 1))
    learned, other = ((each - middle)[:, varies] / spread[varies] for each in (states, asked))
    ridge = RidgeCV(STRENGTHS * learned.size).fit(learned, words)
    said: Array = ridge.predict(other)
    return said.reshape(len(asked), -1)


@dataclass(frozen=True)
class Reading:
    """What linear probes read.

    Attributes:
        preferences: [rows, layers] share of the other subjects' answers to the row's relation that the probe scores
            below the row's own (the same words count one half), 0.5 by guessing; not a number where the row's answer,
            or every other, has no word that the probe learned.
        chance: What the mean of `preferences` at the best layer exceeds by chance with a probability of at most
            (1 − confidence) / 2.
    """

    preferences: Array
    chance: float


def read_answers(
    learned: States,
    answers: Sequence[str],
    asked: States,
    rows: Sequence[Example],
    *,
    confidence: float = 0.95,
    draws: int = 1999,
    seed: int = 0,
) -> Reading:
    """Fit a probe at each layer, and compare how well the right answers fit what it reads with those of other subjects.

    Args:
        learned: [learned rows, layers, width] hidden states to learn from.
        answers: [learned rows] their answers.
        asked: [rows, layers, width] hidden states of the rows in question.
        rows: The rows, some of which are `comparable`; answers of a relation are exchanged between subjects.
        confidence: Of `Reading.chance`.
        draws: Exchanges that it is taken from.
        seed: Of the exchanges.
    """
    words, (candidates, own) = answer_words(answers, answers), _candidates(answers, rows)
    relations, subjects = _asked(rows)
    drawn = exchanges(relations, subjects, draws, seed)
    preferences, highest = [], np.full(draws, -np.inf)
    for layer in tracked(range(learned.shape[1]), "probing", "layers"):
        said = read(learned[:, layer].astype(np.float64), words, asked[:, layer].astype(np.float64))
        found = preferences_by_exchange(said @ candidates.T, own, relations, subjects)
        preferences.append(np.diagonal(found))
        highest = np.maximum(highest, exchanged_means(found, drawn))
    return Reading(np.stack(preferences, axis=1), ceiling(highest, confidence))


def comparable(answers: Sequence[str], rows: Sequence[Example]) -> NDArray[np.bool_]:
    """Which rows a probe that learns from `answers` can say something of.

    Returns:
        [rows] whether the row's answer, and that of another subject to the same relation, has a word of `answers`.
    """
    candidates, own = _candidates(answers, rows)
    any_scores = np.zeros((len(rows), len(candidates)))
    return ~np.isnan(np.diagonal(preferences_by_exchange(any_scores, own, *_asked(rows))))


def _candidates(answers: Sequence[str], rows: Sequence[Example]) -> tuple[Array, Integers]:
    """[distinct, words] the distinct answers of `rows`, and [rows] the number of each row's own, −1 for no word."""
    bags = answer_words(answers, [row.answer for row in rows])
    distinct, own = np.unique(bags, axis=0, return_inverse=True)
    return distinct, np.where(bags.any(axis=1), own.reshape(-1), -1)


def _asked(rows: Sequence[Example]) -> tuple[list[str | None], list[str]]:
    """Relations and subjects; a row without a subject is its own."""
    subjects = [row.subject if row.subject is not None else f"\n{place}" for place, row in enumerate(rows)]
    return [row.relation for row in rows], subjects
