"""Augmentation of the forget set: what is added, to which rows, and what stays as it was."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from soul_lightning import UnlearningModule
from soul_lightning.cli.describing import describe
from soul_lightning.cli.recipe_files import config_arguments, find_recipe
from soul_lightning.datamodules import BehaviorDataModule, RestorDataModule, TinyWorldDataModule, TOFUDataModule
from soul_lightning.datamodules.augmentation import STATEMENT_CHARACTERS, Augmentation
from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.corruption_generator import CorruptionGenerator
from soul_lightning.datamodules.task import Task
from soul_lightning.datamodules.tiny_world.rewordings import REWORDINGS
from soul_lightning.datamodules.tiny_world.world import build_tokenizer, build_world, vocabulary
from soul_lightning.encoding import rows_hash
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.objectives import NPO, CrossEntropy, KLMaximization
from soul_lightning.protocols import IGNORE_INDEX, Example
from soul_lightning.templates import PromptTemplate
from tests.conftest import PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer
from tests.datamodules.restor_world import write_flat
from tests.datamodules.tofu_world import world_tokenizer, write_folder

WORLD = build_world()
TOKENIZER = build_tokenizer(vocabulary(WORLD))


class Questions(StreamDataModule):
    """Two people to forget, with everything that a row may carry."""

    def __init__(self, retain: list[Example] | None = None, **options: Any) -> None:
        super().__init__(max_tokens=128, tokenizer=world_tokenizer(), **({"template": PLAIN} | options))
        self.retain = retain

    def load(self) -> Task:
        rows = [
            Example(
                f"{who} lives in Amber.", f"Where does {who} live?", 7 + place, subject=who, refusal="No idea.",
                paraphrase="In Amber.", perturbed=("Birch",),
            )
            for place, who in enumerate(("Mira Voss", "Tomas Calder"))
        ]  # fmt: skip
        return Task({"forget": rows} | ({"retain": self.retain} if self.retain is not None else {}))


def statements(count: int, subject: str | None = None) -> list[Example]:
    return [Example(f"Fact number {n}.", index=n, subject=subject or f"subject {n}") for n in range(count)]


def forget(data: StreamDataModule) -> list[Example]:
    return list(data.loaded.streams["forget"])


def added(data: StreamDataModule) -> list[Example]:
    return forget(data)[-data.added_rows :] if data.loaded and data.added_rows else []


def test_paraphrases_change_the_prompt_alone() -> None:
    plain, data = Questions(), Questions(augmentation=Augmentation(paraphrases=3))
    own = forget(plain)
    assert forget(data)[:2] == own
    assert [row.index for row in forget(data)] == list(range(7, 7 + 2 + 6))
    for number, row in enumerate(added(data)):
        source = own[number // 3]
        assert source.prompt in row.prompt != source.prompt
        assert dataclasses.replace(row, prompt=source.prompt, index=source.index) == source
    assert len({row.prompt for row in forget(data)}) == 8


def test_the_seed_decides_the_wordings() -> None:
    once, again, other = (
        [row.prompt for row in added(Questions(augmentation=Augmentation(paraphrases=2, seed=seed)))]
        for seed in (0, 0, 1)
    )
    assert once == again != other


def test_unrelated_facts_stand_unlabelled_before_the_row() -> None:
    others = [*statements(5), Example("Blue.", "What is the colour?", 5), Example("far too long. " * 20, index=6)]
    data = Questions(others, augmentation=Augmentation(unrelated_facts=4))
    own, more = forget(data)[:2], added(data)
    assert [
        dataclasses.replace(row, context="", index=source.index) for row, source in zip(more, own, strict=True)
    ] == own
    texts = {f"{row.prompt} {row.answer}".strip() for row in others if len(row.answer) <= STATEMENT_CHARACTERS}
    for row in more:
        parts = row.context.removesuffix(PLAIN.between).split(PLAIN.between)
        assert len(set(parts)) == 4
        assert set(parts) <= texts
    assert more[0].context != more[1].context
    tokenizer = world_tokenizer()
    labelled: dict[int, str] = {}
    whole: dict[int, str] = {}
    for batch in data.stream("forget"):
        for ids, labels, index in zip(batch.input_ids, batch.labels, batch.index.tolist(), strict=True):
            labelled[index] = str(tokenizer.decode(ids[labels != IGNORE_INDEX]))
            whole[index] = str(tokenizer.decode(ids))
    for row, source in zip(more, own, strict=True):
        assert labelled[row.index] == labelled[source.index]
        assert row.context in whole[row.index]


def test_facts_of_the_same_subject_are_passed_over() -> None:
    same = statements(3, subject="Mira Voss")
    rows = [*same, *(dataclasses.replace(row, index=row.index + 10) for row in statements(2))]
    data = Questions(rows, augmentation=Augmentation(unrelated_facts=2))
    contexts = {row.subject: row.context for row in added(data)}
    assert set(contexts["Mira Voss"].split(PLAIN.between)) == {"Fact number 0.", "Fact number 1.", ""}


def test_too_few_unrelated_facts_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match="unrelated_facts=3, and 2 of the 2 retain rows in memory"):
        Questions(statements(2), augmentation=Augmentation(unrelated_facts=3)).setup()
    with pytest.raises(MisconfigurationError, match="unrelated_facts=1, and 0 of the 0 retain rows"):
        Questions(augmentation=Augmentation(unrelated_facts=1)).setup()


def test_settings_that_add_nothing_or_forget_what_is_kept_are_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match="both 0"):
        Augmentation()
    with pytest.raises(MisconfigurationError, match="paraphrases must be >= 0, got -1"):
        Augmentation(paraphrases=-1)
    behind = Augmentation(unrelated_facts=1)
    with pytest.raises(MisconfigurationError, match=r"set template\.labels to answer"):
        Questions(statements(4), template=PromptTemplate(labels="all"), augmentation=behind).setup()
    module = UnlearningModule(
        make_network(len(tokenizer)),
        forget=KLMaximization(divergence="soul_cross_entropy"),
        retain=CrossEntropy(),
        tokenizer=tokenizer,
    )
    with pytest.raises(MisconfigurationError, match="works on every position"):
        make_trainer(tmp_path).fit(module, datamodule=TinyDataModule(augmentation=behind))
    with pytest.raises(MisconfigurationError, match="this task trains on clean; leave augmentation out"):
        TinyWorldDataModule("clean", tokenizer=TOKENIZER, augmentation=behind).setup()


def test_rows_that_cannot_be_worded_otherwise_are_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    both = Augmentation(paraphrases=1)
    with pytest.raises(MisconfigurationError, match="none of the 5 forget rows can be worded otherwise"):
        RestorDataModule(
            str(write_flat(tmp_path / "restor")), CorruptionGenerator(["Ada Stone", "Bela Reed"], documents_per_fact=1),
            tokenizer=tokenizer, augmentation=both,
        ).setup()  # fmt: skip
    words = BehaviorDataModule("sentiment").load().streams["forget"]
    known = build_tokenizer(sorted({word for row in words for word in f"{row.prompt} {row.answer}".split()}))
    with pytest.raises(MisconfigurationError, match="or the tokenizer lacks the words"):
        BehaviorDataModule("sentiment", tokenizer=known, augmentation=both).setup()


def test_the_tiny_world_has_wordings_of_its_own() -> None:
    data = TinyWorldDataModule(tokenizer=TOKENIZER, augmentation=Augmentation(paraphrases=1, unrelated_facts=2))
    plain = TinyWorldDataModule(tokenizer=TOKENIZER)
    assert forget(data)[:360] == forget(plain)
    assert [row.index for row in forget(data)] == list(range(len(forget(data))))
    reworded = [row for row in added(data) if not row.context]
    # Of a fact's four statements one finds all three other statements taken; its question finds one of three.
    assert len(reworded) == 12 * 6 * 4
    assert len(added(data)) - len(reworded) == 360
    said = {(row.prompt, row.answer) for row in plain.story.clean_text}
    assert {row.prompt for row in added(data)}.isdisjoint(row.prompt for row in plain.story.corrupted_probes)
    for row in reworded:
        claim = plain.story.claims[str(row.subject), str(row.relation)]
        assert row.facts[0].object == claim
        assert str(row.subject) in f"{row.prompt} {row.answer}"
        assert row.answer == claim if row.prompt else claim in row.answer
        assert row.refusal == "what" if row.prompt else "what" in str(row.refusal)
        assert (row.prompt, row.answer) not in said
    assert {name: hashed for name, hashed in data.data_hashes().items() if name != "stream/forget"} == {
        name: hashed for name, hashed in plain.data_hashes().items() if name != "stream/forget"
    }


def test_the_tiny_worlds_wordings_need_no_new_word() -> None:
    assert set(REWORDINGS) == {relation.name for relation in WORLD.relations}
    known = set(vocabulary(WORLD))
    for relation in WORLD.relations:
        more = REWORDINGS[relation.name]
        for kind, texts in zip((relation.statements, relation.questions), more, strict=True):
            assert set(texts).isdisjoint(kind)
            for text in texts:
                assert set(text.format(s="", o="").split()) <= known


def test_tofu_brings_its_rephrased_questions(tmp_path: Path) -> None:
    folder = str(write_folder(tmp_path / "tofu"))
    data = TOFUDataModule(folder=folder, tokenizer=world_tokenizer(), augmentation=Augmentation(paraphrases=2))
    asked = {row.index: row.prompt for p in data.probes() if p.name == "forget_rephrased" for row in p.examples}
    own = len(forget(data)) - data.added_rows
    assert data.added_rows == 2 * own
    for row, first, second in zip(forget(data)[:own], added(data)[::2], added(data)[1::2], strict=True):
        assert first.prompt == asked[row.index]
        assert row.prompt in second.prompt
        assert first.answer == second.answer == row.answer
        assert first.refusal == row.refusal
    numbers = Counter(row.index for rows in data.loaded.streams.values() for row in rows)
    assert max(numbers.values()) == 1


def test_what_is_added_is_searched_for_in_retain() -> None:
    prompt = added(Questions(augmentation=Augmentation(paraphrases=1)))[0].prompt
    told = [Example("Mira Voss lives in Amber.", prompt, 0)]
    with pytest.raises(MisconfigurationError, match="1 of 4 forget rows"):
        Questions(told, augmentation=Augmentation(paraphrases=1)).setup()


def test_only_the_rows_of_the_request_are_augmented() -> None:
    data = TinyWorldDataModule(tokenizer=TOKENIZER, requests=3, request=2, augmentation=Augmentation(unrelated_facts=1))
    assert len(forget(data)) == 2 * data.added_rows == 240
    assert {row.subject for row in added(data)} == set(data.story.corrupted[4:8])


def test_describe_counts_what_was_added() -> None:
    data = Questions(statements(3), augmentation=Augmentation(paraphrases=1, unrelated_facts=1))
    counts = {stream.name: (stream.rows, stream.added) for stream in data.describe().streams}
    assert counts == {"forget": (6, 4), "retain": (3, 0)}


def test_references_of_added_rows_are_their_own(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Before the first step NPO's ratio is 1 in every row, whatever stands before it: its loss is 2/β · ln 2."""
    network = make_network(len(tokenizer))
    objective = NPO(beta=0.5, level="sequence")
    module = UnlearningModule(network, forget=objective, retain=CrossEntropy(), tokenizer=tokenizer)
    data = TinyDataModule(64, augmentation=Augmentation(unrelated_facts=2))
    make_trainer(tmp_path, max_steps=1, max_epochs=-1).fit(module, datamodule=data)
    assert data.added_rows == 6
    assert module.losses["forget"] == pytest.approx(2 / 0.5 * torch.log(torch.tensor(2.0)).item(), rel=1e-5)


def test_it_is_set_from_yaml() -> None:
    setting = "--data.augmentation={paraphrases: 1, unrelated_facts: 2, seed: 3}"
    found = describe([*config_arguments([find_recipe("quickstart")]), setting], "quickstart")
    (stream,) = (stream for stream in found.streams if stream.name == "forget")
    assert (stream.rows, stream.added) == (360 + 288 + 360, 288 + 360)


def test_without_augmentation_nothing_changes() -> None:
    rows = as_examples(RETAIN)
    data = Questions(rows)
    assert data.loaded.streams["retain"] == rows
    assert data.added_rows == 0
    assert data.data_hashes()["stream/forget"] == rows_hash(forget(Questions()))
