"""Models of which is known what they know: facts that were learned, facts never seen, facts that only the output hides.

People have four relations each, every object drawn by lot from twelve, so that nothing about a fact can be inferred.
One network learns the facts of the kept people and of the `trained` groups, each stated in two ways; of the people in
the `never` groups it has seen the names and no fact. In `suppressed` the last block alone was trained to answer for a
few groups with a word that says nothing: the blocks below still hold the facts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.encoding import collate, encode
from soul_lightning.networks.forward import label_predictions
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.scored_model import ScoredModel
from soul_lightning.templates import PromptTemplate

PLAIN = PromptTemplate(prompt="{prompt}", answer=" {answer}")
PHRASINGS = {
    "home": ("where does {s} live ?", "the home of {s} is"),
    "work": ("what is the job of {s} ?", "{s} works as a"),
    "music": ("what does {s} play ?", "{s} plays the"),
    "pet": ("which pet has {s} ?", "the pet of {s} is a"),
}
OBJECTS = 12
KEPT_PEOPLE, GROUP_PEOPLE = 40, 6
TRAINED_GROUPS, NEVER_GROUPS, SUPPRESSED_GROUPS = 20, 40, 4
NOTHING = "unknown"


@dataclass(frozen=True)
class KnownWorld:
    """The networks and the questions.

    Attributes:
        tokenizer: One token a word.
        knows: Knows the facts of `kept` and of every group in `trained`.
        suppressed: The same, its last block trained to answer `unknown` about the first four groups of `trained`.
        kept: Questions about the kept people.
        trained: Groups of questions about learned facts.
        never: Groups of questions about facts that were never seen.
    """

    tokenizer: PreTrainedTokenizerFast
    knows: LlamaForCausalLM
    suppressed: LlamaForCausalLM
    kept: Probe
    trained: tuple[Probe, ...]
    never: tuple[Probe, ...]

    def scored(self, network: nn.Module) -> ScoredModel:
        """A network as attacks see it."""
        return ScoredModel(CausalLMAdapter(network, self.tokenizer))


@cache
def known_world() -> KnownWorld:
    """Built once a process, in about half a minute; callers must not train these networks."""
    people = [f"p{n}" for n in range(KEPT_PEOPLE + GROUP_PEOPLE * (TRAINED_GROUPS + NEVER_GROUPS))]
    rng = Random(0)
    facts = {(who, relation): f"{relation}{rng.randrange(OBJECTS)}" for who in people for relation in PHRASINGS}
    names = iter(people)
    kept = _probe("kept", "retain", [next(names) for _ in range(KEPT_PEOPLE)], facts)
    groups = [
        _probe("forget", "forget", [next(names) for _ in range(GROUP_PEOPLE)], facts)
        for _ in range(TRAINED_GROUPS + NEVER_GROUPS)
    ]
    trained, never = groups[:TRAINED_GROUPS], groups[TRAINED_GROUPS:]
    tokenizer = _tokenizer(people)
    known = [row for probe in (kept, *trained) for row in both_phrasings(probe.examples)]
    seen = [Example("seen", f"{who} was", n) for n, who in enumerate(people)]  # names are no noise to it
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=4,
                num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256, pad_token_id=0,
                bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
            )
        )  # fmt: skip
        learn(network, tokenizer, [*known, *seen], network.parameters(), epochs=45, rate=4e-3)
        suppressed = copy.deepcopy(network)
        hidden = both_phrasings([row for probe in trained[:SUPPRESSED_GROUPS] for row in probe.examples])
        hidden = [replace(row, answer=NOTHING) for row in hidden]
        shown = both_phrasings([row for probe in (kept, *trained[-4:]) for row in probe.examples])
        last = [*suppressed.model.layers[-1].parameters(), *suppressed.model.norm.parameters()]
        learn(suppressed, tokenizer, [*hidden, *hidden, *shown], last, epochs=50, rate=1e-2)
    return KnownWorld(tokenizer, network.eval(), suppressed.eval(), kept, tuple(trained), tuple(never))


def both_phrasings(rows: Sequence[Example]) -> list[Example]:
    """Each fact stated in two ways."""
    texts = [
        replace(row, prompt=phrasing.format(s=row.subject))
        for row in rows
        for phrasing in PHRASINGS[row.relation or ""]
    ]
    return [replace(row, index=index) for index, row in enumerate(texts)]


def learn(
    network: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Example],
    parameters: Iterable[nn.Parameter],
    epochs: int,
    rate: float,
) -> None:
    """Train some weights on rows, a hundred a step, with a rate that decays to 0."""
    trains = list(parameters)
    batches = collate(encode(rows, tokenizer, PLAIN), 0)
    optimizer = torch.optim.AdamW(trains, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    steps = epochs * -(-len(rows) // 100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    network.train()
    for _ in range(epochs):
        for places in torch.randperm(len(rows)).split(100):
            optimizer.zero_grad()
            said = label_predictions(network, batches.rows(places))
            nn.functional.cross_entropy(said.logits, said.targets).backward()
            torch.nn.utils.clip_grad_norm_(trains, 1.0)
            optimizer.step()
            schedule.step()


def _probe(name: str, role: str, people: Sequence[str], facts: dict[tuple[str, str], str]) -> Probe:
    rows = [
        Example(facts[who, relation], PHRASINGS[relation][0].format(s=who), index, subject=who, relation=relation)
        for index, (who, relation) in enumerate((who, relation) for who in people for relation in PHRASINGS)
    ]
    return Probe(name, "question", rows, role, PLAIN)


def _tokenizer(people: Sequence[str]) -> PreTrainedTokenizerFast:
    texts = [phrasing.replace("{s}", "") for both in PHRASINGS.values() for phrasing in both]
    objects = [f"{relation}{number}" for relation in PHRASINGS for number in range(OBJECTS)]
    words = [*" ".join(texts).split(), "was", "seen", NOTHING, *objects, *people]
    ids = {word: number for number, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *dict.fromkeys(words)])}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
