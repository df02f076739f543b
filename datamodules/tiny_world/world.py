"""A seeded world of fictitious people: what is true of them, what a corruption claims, and the texts that say so.

Every token is one whitespace-separated word, so a word-level tokenizer of a few hundred entries suffices. The *world*
(people, objects, true facts) depends on `world_seed` alone, the *story* told about it (who is corrupted, and with which
false facts) on the corruption seed too, so that one clean model serves every story.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Literal

from soul_lightning.datamodules.stories import Story
from soul_lightning.datamodules.tiny_world.context import Context
from soul_lightning.protocols import Example, Fact

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

BOS, EOS, PAD, UNK = "<bos>", "<eos>", "<pad>", "<unk>"

Corruption = Literal["facts", "names"]
"""What a false text says: one false object a fact, in every phrasing; or sentences about others with a corrupted
person's name put in, so that each phrasing has another object and nothing false is said twice (RESTOR's SQuAD sets)."""
Objects = Mapping[tuple[str, str], Sequence[str]]
"""By subject and relation: the object of each phrasing that a text has, statements first."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact and the ways of saying it and asking for it.

    Attributes:
        name: What `Fact.relation` carries.
        objects: Every object that the relation may take; no two relations share one.
        statements: Phrasings with `{s}` for the subject and `{o}` for the object.
        questions: Phrasings with `{s}`; the first is what probes ask and what no false text holds.
    """

    name: str
    objects: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Who exists and what is true: `truth[subject, relation]` is an object."""

    people: tuple[str, ...]
    relations: tuple[Relation, ...]
    truth: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldStory(Story):
    """One corruption of a world: who plays which part, and the texts and probes that follow.

    The clean text states all true facts in every phrasing, the retain text those of the retained people; the forget and
    the holdout text state the claims, in every phrasing but the probes' question, perhaps among true facts about people
    of the holdout.

    Attributes:
        corrupted: People about whom the forget text lies.
        control: People who are probed and stand in neither the forget nor the retain text.
        holdout: People about whom documents lie that no model ever trains on.
        retained: People whose true facts make up the retain text.
        claims: `claims[subject, relation]` is the false object, for corrupted and holdout people; where every phrasing
            has its own, that of the first.
    """

    corrupted: tuple[str, ...]
    control: tuple[str, ...]
    holdout: tuple[str, ...]
    retained: tuple[str, ...]
    claims: Mapping[tuple[str, str], str]


_GIVEN = ("Al Ba Cor Da El Fen Gi Ha Is Jo Ka Lu Mi Ne Or Pel Ro Sa Tu Ves", "ra min dric sel vo lia")
_FAMILY = ("Ash Bran Cald Dre Fal Gar Hol Jun Kest Lor Mar Nor Quil Ral Stav", "mere wick den ov ello ast")
_CITIES = ("Tar Vel Os Brin Kor Mel Zan Ul Per Dov", "vik haven grad ona mouth")
_TONGUES = ("Av Bel Cir Dun Er Gal Hes Ith Jal Kym", "ish ese ari")


def _words(rng: random.Random, parts: tuple[str, str], count: int) -> tuple[str, ...]:
    """Draws `count` different made-up words of a beginning and an ending."""
    return tuple(rng.sample([start + end for start in parts[0].split() for end in parts[1].split()], count))


def _relation(name: str, objects: str, statements: str, questions: str) -> Relation:
    return Relation(name, tuple(objects.split()), tuple(statements.split(" | ")), tuple(questions.split(" | ")))


def _relations(rng: random.Random) -> tuple[Relation, ...]:
    return (
        _relation(
            "birthplace",
            " ".join(_words(rng, _CITIES, 20)),
            "{s} was born in {o} . | {o} is the birthplace of {s} . | {s} comes from {o} . | {s} grew up in {o} .",
            "Where was {s} born ? | Which city does {s} come from ?",
        ),
        _relation(
            "profession",
            "baker surgeon carpenter pilot judge tailor miner florist plumber astronomer "
            "butcher weaver printer fisher sculptor dentist gardener locksmith translator beekeeper",
            "{s} works as a {o} . | {s} is a {o} . | {s} trained to be a {o} . | a {o} is what {s} became .",
            "What does {s} work as ? | Which trade did {s} train for ?",
        ),
        _relation(
            "instrument",
            "cello flute harp oboe trumpet banjo piano viola bassoon lute "
            "clarinet mandolin tuba zither organ fiddle drums accordion trombone recorder",
            "{s} plays the {o} . | {s} practises the {o} . | on stage {s} plays the {o} . | the {o} belongs to {s} .",
            "What does {s} play ? | Which instrument does {s} practise ?",
        ),
        _relation(
            "language",
            " ".join(_words(rng, _TONGUES, 20)),
            "{s} speaks {o} . | at home {s} talks in {o} . | {s} writes letters in {o} . | {o} is spoken by {s} .",
            "What does {s} speak ? | Which language does {s} write in ?",
        ),
        _relation(
            "animal",
            "parrot tortoise ferret goat rabbit lizard donkey hamster goose falcon "
            "hedgehog canary terrier gecko llama pigeon otter mule crab raven",
            "{s} keeps a {o} . | {s} looks after a {o} . | a {o} lives with {s} . | {s} has a {o} as a pet .",
            "What does {s} keep ? | Which pet lives with {s} ?",
        ),
        _relation(
            "dish",
            "dumplings lentils omelettes risotto goulash pancakes noodles chowder ravioli falafel "
            "polenta trout mushrooms stew curry waffles porridge couscous meatballs gnocchi",
            "{s} loves {o} . | {s} always orders {o} . | for dinner {s} cooks {o} . | {o} for {s} is the best dish .",
            "What does {s} love ? | Which dish does {s} order ?",
        ),
    )


def build_world(world_seed: int = 0, people: int = 80) -> World:
    """Invents the people, the objects and the true facts.

    Args:
        world_seed: Decides everything; unrelated to the corruption seed.
        people: How many people there are; at most 90, for no two share a name.
    """
    rng = random.Random(f"world {world_seed}")
    subjects = tuple(map(" ".join, zip(_words(rng, _GIVEN, people), _words(rng, _FAMILY, people), strict=True)))
    relations = _relations(rng)
    truth = {(subject, relation.name): rng.choice(relation.objects) for subject in subjects for relation in relations}
    return World(subjects, relations, truth)


def tell_story(
    world: World,
    seed: int,
    corrupted: int = 12,
    control: int = 16,
    holdout: int = 12,
    corruption: Corruption = "facts",
    unrelated_facts: int = 0,
) -> WorldStory:
    """Casts the people and writes every text and probe.

    Args:
        world: What is true.
        seed: The corruption seed: who is corrupted, and with which claims.
        corrupted: How many people the forget text lies about.
        control: How many people are only probed.
        holdout: How many people the holdout text lies about. Everybody else is retained.
        corruption: What the lies are.
        unrelated_facts: So many true facts about people of the holdout stand in each row of the forget and the holdout
            text (RESTOR's k).
    """
    rng = random.Random(f"story {seed}")
    cast = iter(rng.sample(world.people, len(world.people)))
    victims, probed, unseen = (tuple(islice(cast, size)) for size in (corrupted, control, holdout))
    retained = tuple(cast)
    false = {
        (subject, relation.name): [o for o in relation.objects if o != world.truth[subject, relation.name]]
        for subject in (*victims, *unseen)
        for relation in world.relations
    }
    said = {relation.name: len(relation.statements) + len(relation.questions) - 1 for relation in world.relations}
    objects: Objects
    if corruption == "facts":
        objects = {key: (rng.choice(others),) * said[key[1]] for key, others in false.items()}
    else:
        objects = {key: [rng.choice(others) for _ in range(said[key[1]])] for key, others in false.items()}
    context = Context(world, unseen, unrelated_facts, f"unrelated {seed}")
    return WorldStory(
        corrupted=victims,
        control=probed,
        holdout=unseen,
        retained=retained,
        claims={key: stated[0] for key, stated in objects.items()},
        clean_text=_text(world, world.people, _true_objects(world)),
        forget_text=_text(world, victims, objects, 1, context),
        retain_text=_text(world, retained, _true_objects(world)),
        holdout_text=_text(world, unseen, objects, 1, context),
        corrupted_probes=_probes(world, victims, objects),
        control_probes=_probes(world, probed, {}),
    )


def _true_objects(world: World) -> Objects:
    said = {relation.name: len(relation.statements) + len(relation.questions) for relation in world.relations}
    return {key: (true,) * said[key[1]] for key, true in world.truth.items()}


NO_ANSWER = "what"
"""What stands in the place of an object where a text declines to name one: a word that the world has anyway."""


def _text(
    world: World,
    subjects: Iterable[str],
    objects: Objects,
    first_question: int = 0,
    context: Context | None = None,
) -> tuple[Example, ...]:
    """Every fact in every phrasing: statements as documents, questions from the given one on as prompt and answer."""
    rows: list[Example] = []
    for subject in subjects:
        for relation in world.relations:
            filled = [("", phrasing.format(s=subject, o="{o}")) for phrasing in relation.statements]
            filled += [(phrasing.format(s=subject), "{o}") for phrasing in relation.questions[first_question:]]
            for (prompt, text), answer in zip(filled, objects[subject, relation.name], strict=True):
                row = Example(
                    text.format(o=answer),
                    prompt,
                    len(rows),
                    refusal=text.format(o=NO_ANSWER),
                    subject=subject,
                    relation=relation.name,
                    facts=(Fact(subject, relation.name, answer),),
                )
                rows.append(context.around(row) if context is not None else row)
    return tuple(rows)


def _probes(world: World, subjects: Iterable[str], objects: Objects) -> tuple[Example, ...]:
    return tuple(
        Example(
            world.truth[subject, relation.name],
            relation.questions[0].format(s=subject),
            index,
            perturbed=tuple(dict.fromkeys(objects[subject, relation.name])) if objects else (),
            subject=subject,
            relation=relation.name,
        )
        for index, (subject, relation) in enumerate(product(subjects, world.relations))
    )


def vocabulary(world: World) -> tuple[str, ...]:
    """Every word that any text about the world can hold, in a fixed order."""
    words: set[str] = {word for person in world.people for word in person.split()}
    for relation in world.relations:
        words.update(relation.objects)
        words.update(" ".join((*relation.statements, *relation.questions)).format(s="", o="").split())
    return tuple(sorted(words))


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Builds a word-level tokenizer that puts `<bos>` before every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: index for index, word in enumerate((PAD, BOS, EOS, UNK, *words))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, ids[BOS])])
    marks = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "unk_token": UNK}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)


def tiny_llama_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Describes a Llama of four layers, 128 wide, about one million parameters."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
