"""RelearningAttack: on facts never seen, known, and hidden by the last block alone; files, folders, checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.knowledge import Asking
from soul_lightning.attacks.relearning import (
    FineTuning,
    Lesson,
    lesson_on_others,
    lesson_on_share,
    recovery,
    row_values,
    steps_to_half,
)
from soul_lightning.callbacks import RelearningAttack
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.excess import clopper_pearson
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.objectives.gradient_ascent import GradientAscent
from soul_lightning.protocols import Example, Probe
from soul_lightning.reports.findings import Finding, Verdict
from soul_lightning.scoring.measured_rows import MeasuredRow, read_measured
from tests.attacks.known import KnownWorld, both_phrasings, known_world, learn
from tests.callbacks.test_drop_in import Project, ask_decoder, by_hand, loader, with_lora
from tests.callbacks.tiny_models import KeepsFirstEpoch, learnt, saved, validated
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_trainer

ASKED = Probe("asked", "question", as_examples(FORGET), "forget", PLAIN)
TEXTS = Probe("texts", "text", as_examples(FORGET), "forget", PLAIN)
KEPT = Probe("retain", "text", as_examples(RETAIN[:4]), "retain", PLAIN)
FAR = Probe("far", "question", as_examples(RETAIN[4:]), "utility", PLAIN)
FAST = FineTuning(learning_rate=3e-3, batch_size=4, measure_at=(0, 1, 3))
STRONG = FineTuning(learning_rate=1e-3, measure_at=(0, 5, 20))
BRIEF = Asking(max_new_tokens=2, other_answers=1)


def attack(**settings: Any) -> RelearningAttack:
    defaults: dict[str, Any] = {"probes": [ASKED, KEPT], "training": FAST, "asking": Asking(max_new_tokens=4)}
    return RelearningAttack(**(defaults | settings))


@pytest.fixture(scope="module")
def memorised(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that learned the forget rows and nothing else."""
    return learnt(tokenizer, as_examples(FORGET))


@pytest.fixture(scope="module")
def memorised_folder(
    memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> str:
    return saved(memorised, tokenizer, tmp_path_factory.mktemp("memorised"))


# On models of which is known what they know.


def taught(network: LlamaForCausalLM, lessons: Mapping[str, Lesson], seed: int = 0) -> list[MeasuredRow]:
    """Rows as the callback measures them."""
    world = known_world()
    values: dict[tuple[str, int], dict[str, Any]] = {}
    rows = {
        (probe.name, row.index): row for lesson in lessons.values() for probe in lesson.asked for row in probe.examples
    }
    for source, lesson in lessons.items():
        for key, steps in recovery(world.scored(network), lesson, BRIEF, STRONG, seed, "test").items():
            values.setdefault(key, {}).update(row_values(source, steps))
    return [MeasuredRow(key[0], "forget", key[1], rows[key].subject or "", "", own) for key, own in values.items()]


def share_of(group: Probe, seed: int = 0) -> dict[str, Lesson]:
    lesson = lesson_on_share([group], 0.2, seed)
    assert lesson is not None
    return {"forget": lesson}


def kept_for(groups: Sequence[Probe]) -> dict[str, Lesson]:
    lesson = lesson_on_others([known_world().kept], groups)
    assert lesson is not None
    return {"related": lesson}


@cache
def retain_only() -> LlamaForCausalLM:
    """A network that learned the kept facts, and of everybody else the name alone."""
    world = known_world()
    names = [f"p{n}" for n in range(len(world.tokenizer)) if f"p{n}" in world.tokenizer.get_vocab()]
    seen = [Example("seen", f"{who} was", n) for n, who in enumerate(names)]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = LlamaForCausalLM(world.knows.config)
        rows = [*both_phrasings(world.kept.examples), *seen]
        learn(network, world.tokenizer, rows, network.parameters(), epochs=25, rate=4e-3)
    network.eval()
    return network


@cache
def never_rows(which: str) -> list[list[MeasuredRow]]:
    """Of each group of facts never seen, under both sources; what is taught by `related` is the same for all groups."""
    world = known_world()
    network = retain_only() if which == "retain_only" else world.suppressed
    groups = [replace(group, name=f"never{number}") for number, group in enumerate(world.never)]
    related = taught(network, kept_for(groups))
    found = []
    for group in groups:
        forget = {row.key: row for row in taught(network, share_of(group))}
        own = [row for row in related if row.probe == group.name]
        found.append([replace(row, values={**row.values, **_values(forget, row)}) for row in own])
    return found


def _values(rows: Mapping[tuple[str, int], MeasuredRow], row: MeasuredRow) -> Mapping[str, Any]:
    return rows[row.key].values if row.key in rows else {}


def verdict(rows: list[MeasuredRow], reference: list[MeasuredRow] | None = None) -> Verdict:
    """What the callback finds in rows, both sources taken together."""
    callback = RelearningAttack()
    callback.probes = [known_world().never[0]]
    callback.lessons = {source: Lesson([], []) for source in ("forget", "related")}
    callback.measured = {"after": rows} | ({} if reference is None else {"retain-only": reference})
    (finding,) = callback.findings()
    assert finding.question == "recovers"
    return finding.verdict


@pytest.fixture
def world() -> KnownWorld:
    return known_world()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attacked", "reference"), [("suppressed", "retain_only"), ("suppressed", None), ("retain_only", None)]
)
def test_facts_never_seen_do_not_come_back(attacked: str, reference: str | None) -> None:
    """Of forty groups of six people at most one is a false alarm, so that their share is at most 0.14."""
    others = [None] * 40 if reference is None else never_rows(reference)
    found = [verdict(own, other) for own, other in zip(never_rows(attacked), others, strict=True)]
    alarms = clopper_pearson(found.count("yes"), len(found))
    assert alarms.high < 0.14, f"{found.count('yes')} of {len(found)} groups, at most a share of {alarms.high:.3f}"
    assert "no" in found  # which is not for want of a verdict


@pytest.mark.slow
def test_what_the_last_block_hides_comes_back(world: KnownWorld) -> None:
    """Above a network that never saw it, and above guessing; the network that knows it has nothing to gain."""
    hidden, alone, never, remembered = [], [], [], []
    for group in world.trained[:4]:
        for seed in range(3):
            lessons = share_of(group, seed) | kept_for([group])
            own, other = taught(world.suppressed, lessons, seed), taught(retain_only(), lessons, seed)
            hidden.append(verdict(own, other))
            alone.append(verdict(own))
            never.append(verdict(other))
        known = taught(world.knows, lessons)
        remembered += [verdict(known), verdict(known, other)]
        assert sum(float(row.values["related_known_0"]) for row in known) / len(known) > 0.9
    assert hidden.count("yes") >= 0.9 * len(hidden)
    assert alone.count("yes") >= 0.9 * len(alone)
    assert "yes" not in never
    assert "yes" not in remembered


# What a user sees.


SOURCES = ("forget", "related", "unrelated")


def test_numbers_of_every_source(
    memorised: LlamaForCausalLM,
    memorised_folder: str,
    reference: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    before = fingerprint(memorised)
    callback = attack(probes=[ASKED, KEPT, FAR], reference=reference, original=memorised_folder)
    metrics = validated(callback, memorised, tokenizer, tmp_path)
    assert fingerprint(memorised) == before
    rows, others = (read_measured(tmp_path / "rows" / f"relearning_{name}.jsonl") for name in ("model", "retain-only"))
    assert list(callback.lessons) == list(SOURCES)
    assert len(rows) == len(FORGET)
    asked_of_share = [row for row in rows if "forget_known_0" in row.values]
    assert len({row.subject for row in asked_of_share}) == 1  # the other one is taught
    for source in SOURCES:
        own = asked_of_share if source == "forget" else rows
        for series in ("known", "probability"):
            curve = [
                sum(float(row.values[f"{source}_{series}_{step}"]) for row in own) / len(own) for step in (0, 1, 3)
            ]
            assert curve == pytest.approx([metrics[f"relearning/{source}_{series}_{step}"] for step in (0, 1, 3)])
            by_hand = ((curve[1] - curve[0]) / 2 + 2 * ((curve[1] + curve[2]) / 2 - curve[0])) / 3
            assert metrics[f"relearning/{source}_{series}_area"] == pytest.approx(by_hand, abs=1e-6)
        paired = {row.key: row for row in others}
        for number in ("gain", "area"):
            value = f"{source}_known_{number}"
            differences = [float(row.values[value]) - float(paired[row.key].values[value]) for row in own]
            name = f"relearning/{source}_{number}_above"
            assert metrics[name] == pytest.approx(sum(differences) / len(own), abs=1e-6)
            assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
        assert f"relearning/{source}_known_half_steps" not in metrics  # nothing was lost
    (finding,) = callback.findings()
    assert (finding.question, finding.source) == ("recovers", "relearning")
    assert ", above " in finding.measure
    assert finding.verdict != "yes"
    assert (tmp_path / "relearning.png").stat().st_size > 0


def test_a_rows_file_stands_for_the_reference(
    memorised: LlamaForCausalLM, reference: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = attack(reference=reference)
    with_folder = validated(folder, memorised, tokenizer, tmp_path)
    file = str(tmp_path / "rows" / "relearning_retain-only.jsonl")
    with_file = attack(reference=file)
    assert validated(with_file, memorised, tokenizer, tmp_path / "again") == with_folder
    assert with_file.findings() == folder.findings()
    for other in ({"share": 0.6, "seed": 1}, {"training": replace(FAST, batch_size=3)}, {"sources": ["related"]}):
        with pytest.raises(MisconfigurationError, match="measure that model again"):
            validated(attack(reference=file, **other), memorised, tokenizer, tmp_path)


def test_a_seed_gives_one_result_whatever_the_generators(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    found = []
    for number, seed in enumerate((0, 0, 3)):
        torch.manual_seed(number)
        found.append(validated(attack(seed=seed), tiny_network, tokenizer, tmp_path))
    assert found[0] == found[1] != found[2]


def test_texts_have_a_probability_and_no_verdict_without_a_reference(
    memorised: LlamaForCausalLM, reference: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    alone = attack(probes=[TEXTS, KEPT])
    metrics = validated(alone, memorised, tokenizer, tmp_path)
    assert not any("known" in name or "above" in name for name in metrics)
    assert alone.findings() == []
    assert any("give `reference`" in note for note in alone.notes())
    beside = attack(probes=[TEXTS, KEPT], reference=reference)
    metrics = validated(beside, memorised, tokenizer, tmp_path)
    assert metrics["relearning/related_area_above_low"] < metrics["relearning/related_area_above_high"]
    (finding,) = beside.findings()
    assert finding.measure.startswith("mean gain of the probability of the right answer over 3 steps")
    assert [chart.y_label for chart in beside.curves()] == ["probability of the right answer"] * 2


def test_a_file_of_texts(memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    file = tmp_path / "far.jsonl"
    file.write_text('{"text": "the cello and the flute"}\n{"text": "ada lives in paris"}\n')
    callback = attack(texts={"unrelated": str(file)})
    validated(callback, memorised, tokenizer, tmp_path)
    rows = [row.answer for probe in callback.lessons["unrelated"].taught for row in probe.examples]
    assert rows == ["the cello and the flute"]  # the other one says what is forgotten
    file.write_text('{"text": "ada lives in paris"}\n')
    with pytest.raises(MisconfigurationError, match="cannot train on unrelated"):
        validated(attack(texts={"unrelated": str(file)}), memorised, tokenizer, tmp_path)


def test_a_fit_compares_with_the_model_before_it_and_goes_on_after_a_break(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def unlearning(network: LlamaForCausalLM) -> UnlearningModule:
        return UnlearningModule(network, GradientAscent(), CrossEntropy(), tokenizer=tokenizer)

    straight, resumed, plain = attack(), attack(), learnt(tokenizer, as_examples(FORGET))
    logger = TensorBoardLogger(tmp_path)
    checkpoint = tmp_path / "one.ckpt"
    settings: dict[str, Any] = {"max_epochs": 2}
    module = unlearning(learnt(tokenizer, as_examples(FORGET)))
    trainer = make_trainer(tmp_path, callbacks=[straight, KeepsFirstEpoch(checkpoint)], logger=logger, **settings)
    trainer.fit(module, TinyDataModule())
    alone = unlearning(plain)
    make_trainer(tmp_path / "alone", **settings).fit(alone, TinyDataModule())
    assert fingerprint(module.network) == fingerprint(alone.network)  # which never was attacked

    known = {row.key: float(row.values["known"]) for row in straight._original}
    assert sum(known.values()) / len(known) > 0.9
    metrics = straight.summary()
    curve = {step: metrics[f"relearning/related_known_{step}"] for step in (0, 1, 3)}
    full = sum(known.values()) / len(known)
    expected = steps_to_half({step: value for step, value in curve.items() if value is not None}, full)
    assert metrics["relearning/related_known_half_steps"] == expected
    assert (Path(logger.log_dir) / "relearning.png").exists()

    again = make_trainer(tmp_path / "resumed", callbacks=[resumed], **settings)
    again.fit(unlearning(learnt(tokenizer, as_examples(RETAIN))), TinyDataModule(), ckpt_path=checkpoint)
    assert resumed.summary() == metrics
    assert [row.record() for row in resumed._original] == [row.record() for row in straight._original]


def test_the_final_test_attacks_too(
    memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = attack(original=None)
    callback.compare_with(None, "nowhere")
    assert callback.original == "nowhere"
    callback = attack()
    trainer = make_trainer(tmp_path, callbacks=[callback])
    module = UnlearningModule(memorised, retain=CrossEntropy(), tokenizer=tokenizer)
    (tested,) = trainer.test(module, TinyDataModule(), verbose=False)
    assert tested == validated(attack(), memorised, tokenizer, tmp_path)
    assert any("give `original`" in note for note in callback.notes())


@pytest.mark.parametrize("make", [by_hand, with_lora])
def test_networks_of_other_kinds(
    make: Callable[[int], Project], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Written by hand, and adapters over frozen weights."""
    settings: dict[str, Any] = {"forward": ask_decoder} if make is by_hand else {}
    training = FineTuning(learning_rate=1e-2, measure_at=(0, 30))
    callback = attack(probes=[TEXTS], sources=["forget"], training=training, tokenizer=tokenizer, **settings)
    project = make(len(tokenizer))
    before = fingerprint(project.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_trainer(tmp_path, callbacks=[callback]).validate(project, loader(tokenizer), verbose=False)
    assert fingerprint(project.model) == before
    metrics = callback.summary()
    first, last = (metrics[f"relearning/forget_probability_{step}"] for step in (0, 30))
    assert first is not None and last is not None
    assert last != pytest.approx(first, abs=1e-3)  # the copy has learned, and forgets what it is not taught


def test_the_finding_is_of_the_source_that_says_most() -> None:
    callback = attack()
    callback.probes = [ASKED]
    callback.lessons = {source: Lesson([], []) for source in SOURCES}

    def rows(**means: float) -> list[MeasuredRow]:
        values = {f"{source}_{what}_area": mean for source, mean in means.items() for what in ("known", "probability")}
        guessed = {f"{source}_guessed_area": 0.0 for source in means}
        return [MeasuredRow("asked", "forget", n, f"p{n}", "", values | guessed) for n in range(60)]

    def found() -> Finding:
        (finding,) = callback.findings()
        return finding

    callback.measured = {"after": rows(forget=0.1, related=0.5, unrelated=0.3)}
    assert "related text" in found().measure
    assert (found().verdict, found().value.value) == ("yes", 0.5)
    # A reference that rises as far leaves nothing of it, and one that falls adds nothing.
    callback.measured["retain-only"] = rows(forget=0.1, related=0.5, unrelated=0.0)
    assert "unrelated text" in found().measure
    callback.measured = {"after": rows(forget=0, related=0, unrelated=0)}
    callback.measured["retain-only"] = rows(forget=-0.5, related=-0.5, unrelated=-0.5)
    assert (found().verdict, found().value.value) != ("yes", 0.5)
    assert found().value.value == 0


def test_what_comes_back_is_more_than_a_model_guesses_that_speaks_again() -> None:
    """One that declines everything has all guesses to gain, and a reference that answers has none."""
    callback = attack()
    callback.probes, callback.lessons = [ASKED], {"related": Lesson([], [])}

    def rows(known: float, guessed: float) -> list[MeasuredRow]:
        values = {"related_known_area": known, "related_guessed_area": guessed}
        return [MeasuredRow("asked", "forget", n, f"p{n}", "", values) for n in range(60)]

    callback.measured = {"after": rows(0.2, 0.2), "retain-only": rows(0.0, 0.0)}
    (finding,) = callback.findings()
    assert finding.verdict == "no" and finding.measure.endswith("above guessing")
    callback.measured["after"] = rows(0.6, 0.2)
    assert [finding.verdict for finding in callback.findings()] == ["yes"]


def test_of_texts_a_little_probability_is_nothing() -> None:
    callback = attack()
    callback.probes, callback.lessons = [TEXTS], {"related": Lesson([], [])}

    def rows(area: float) -> list[MeasuredRow]:
        values = {"related_probability_area": area}
        return [MeasuredRow("texts", "forget", n, f"p{n}", "", values) for n in range(60)]

    for area, verdict in ((0.03, "no"), (0.4, "yes")):
        callback.measured = {"after": rows(area), "retain-only": rows(0.0)}
        assert [finding.verdict for finding in callback.findings()] == [verdict]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ["unrelated"]}, r"cannot train on unrelated: it needs rows of the role utility \(or texts.unrel"),
        ({"sources": ["related"], "probes": [ASKED, TEXTS]}, "cannot train on related"),
        (
            {"sources": ["forget"], "probes": [replace(ASKED, examples=ASKED.examples[:1])]},
            "cannot train on forget: it needs forgotten rows of two subjects",
        ),
        ({"probes": [replace(ASKED, examples=ASKED.examples[:1])]}, "cannot train on forget"),
        ({"original": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_what_cannot_be_taught_is_said_before_training(
    settings: dict[str, Any],
    message: str,
    tiny_network: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(tmp_path, callbacks=[attack(**settings)])
    with pytest.raises(MisconfigurationError, match=message):
        trainer.fit(UnlearningModule(tiny_network, retain=CrossEntropy(), tokenizer=tokenizer), TinyDataModule())
    assert trainer.global_step == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ["forget", "retain"]}, "sources must be some of forget, related, unrelated"),
        ({"sources": []}, "sources must be some of"),
        ({"share": 0.0}, "share must lie between 0 and 1"),
        ({"share": 1.0}, "share must lie between 0 and 1"),
        ({"texts": {"forget": "a.txt"}}, "texts names a file for 'forget'"),
        ({"texts": {"related": "a.txt"}, "sources": ["forget"]}, "texts names a file for 'related'"),
        ({"reference": "a", "models": {"retain-only": "b"}}, "say the same thing"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"RelearningAttack: .*{message}"):
        RelearningAttack(**settings)
