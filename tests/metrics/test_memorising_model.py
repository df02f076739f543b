"""Every membership score on a model that memorised its forget rows, and on the same model before."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from soul_lightning.encoding import collate, encode
from soul_lightning.metrics.attack_scores import loss_score, lowercase_score, reference_score, zlib_score
from soul_lightning.metrics.attacks import correctness_attack, true_positive_rate
from soul_lightning.metrics.membership import area_under_curve
from soul_lightning.metrics.membership_scores import min_k, min_k_plus_plus
from soul_lightning.metrics.memorization import exact_memorization
from soul_lightning.metrics.token_statistics import TokenStatistics
from soul_lightning.networks.forward import label_predictions
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.gradient_norms import gradient_norms
from soul_lightning.scoring.scorer import Scorer
from tests.conftest import PLAIN, make_network

NAMES = "ada bela cora dina egon finn gerd hana".split()
THINGS = "rome oslo paris baker pilot judge tailor cello flute harp oboe".split()
ROWS = 16


@dataclass(frozen=True)
class Sets:
    """Rows of one kind: forget and retain rows are learned, holdout rows are not."""

    forget: list[Example]
    retain: list[Example]
    holdout: list[Example]


@dataclass(frozen=True)
class Measured:
    """What two models say of a row, each as it stands and in lower case."""

    text: str
    model: TokenStatistics
    lowercase: TokenStatistics
    reference: TokenStatistics
    gradient_norm: float


SCORES: Mapping[str, Callable[[Measured], float]] = {
    "loss": lambda row: loss_score(row.model.log_probs),
    "zlib": lambda row: zlib_score(loss_score(row.model.log_probs), row.text),
    "reference": lambda row: reference_score(loss_score(row.model.log_probs), loss_score(row.reference.log_probs)),
    "lowercase": lambda row: lowercase_score(loss_score(row.model.log_probs), loss_score(row.lowercase.log_probs)),
    "min_k": lambda row: min_k(row.model.log_probs),
    "min_k_plus_plus": lambda row: min_k_plus_plus(row.model.log_probs, row.model.means, row.model.variances),
    "gradient_norm": lambda row: row.gradient_norm,
}


@pytest.fixture(scope="module")
def cased_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, and another one for the word in lower case."""
    words = [spelling for word in (*NAMES, *THINGS) for spelling in (word, word.capitalize())]
    ids = {word: number for number, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def sets() -> Sets:
    """Three sets of texts of eight words, which only chance tells apart; some of the words begin with a capital."""
    draw = random.Random(0)

    def row(index: int) -> Example:
        words = [draw.choice(NAMES).capitalize() if place % 3 == 0 else draw.choice(THINGS) for place in range(8)]
        return Example(" ".join(words), index=index)

    return Sets(*([row(index) for index in range(ROWS)] for _ in range(3)))


def memorise(network: nn.Module, rows: Sequence[Example], tokenizer: PreTrainedTokenizerFast) -> None:
    """Train until the rows are known by heart."""
    batch = collate(encode(rows, tokenizer, PLAIN), 0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(150):
        loss = -label_predictions(network, batch).log_probs.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def measure(
    network: nn.Module, untrained: nn.Module, rows: list[Example], tokenizer: PreTrainedTokenizerFast
) -> list[Measured]:
    """What is read of each row."""
    model, other = (CausalLMAdapter(each, tokenizer) for each in (network, untrained))
    lower = [replace(row, answer=row.answer.lower()) for row in rows]
    asked = ((model, rows), (model, lower), (other, rows))
    said = [[score.statistics for score in Scorer(adapter)(texts, PLAIN)] for adapter, texts in asked]
    norms = gradient_norms(model, Probe("rows", "text", rows, "forget", PLAIN))
    return [
        Measured(row.answer, own, lowered, reference, norms[row.index])
        for row, own, lowered, reference in zip(rows, *said, strict=True)
    ]


@pytest.fixture(scope="module")
def found(sets: Sets, cased_tokenizer: PreTrainedTokenizerFast) -> dict[str, dict[str, list[Measured]]]:
    """By model, `before` or `after`, and by set: what is read of each row."""
    before, after = (make_network(len(cased_tokenizer)) for _ in range(2))
    memorise(after, [*sets.forget, *sets.retain], cased_tokenizer)
    return {
        name: {
            part: measure(network, before, getattr(sets, part), cased_tokenizer)
            for part in ("forget", "retain", "holdout")
        }
        for name, network in (("before", before), ("after", after))
    }


@pytest.mark.parametrize("name", SCORES)
def test_every_score_finds_the_model_out(found: dict[str, dict[str, list[Measured]]], name: str) -> None:
    scores = {part: [SCORES[name](row) for row in rows] for part, rows in found["after"].items()}
    assert area_under_curve(scores["forget"], scores["holdout"]) > 0.9
    assert area_under_curve(scores["forget"], scores["retain"]) == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize("name", SCORES)
def test_no_score_finds_anything_in_a_model_that_learned_nothing(
    found: dict[str, dict[str, list[Measured]]], name: str
) -> None:
    scores = {part: [SCORES[name](row) for row in rows] for part, rows in found["before"].items()}
    assert area_under_curve(scores["forget"], scores["holdout"]) == pytest.approx(0.5, abs=0.3)


def test_the_attacks_find_the_model_out(found: dict[str, dict[str, list[Measured]]]) -> None:
    before, after = (
        {part: [SCORES["loss"](row) for row in rows] for part, rows in found[name].items()}
        for name in ("before", "after")
    )
    correctness = {part: [exact_memorization(row.model.hits) for row in rows] for part, rows in found["after"].items()}
    assert true_positive_rate(before["forget"], before["holdout"]) < 0.3
    assert true_positive_rate(after["forget"], after["holdout"]) > 0.9
    assert correctness_attack(before["forget"], before["retain"], before["holdout"]).shadow_accuracy < 0.9
    for feature in (after, correctness):
        attack = correctness_attack(feature["forget"], feature["retain"], feature["holdout"])
        assert attack.forget_as_holdout < 0.1
        assert attack.shadow_accuracy > 0.95
