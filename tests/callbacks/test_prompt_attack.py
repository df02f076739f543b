"""PromptAttack: what it writes, what it refuses, and that it is right about models of which is known what they know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.attacks.knowledge import Asking
from soul_lightning.attacks.rewrites import REWRITES
from soul_lightning.callbacks import PromptAttack
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.excess import clopper_pearson
from soul_lightning.protocols import Probe
from soul_lightning.scoring.measured_rows import MeasuredRow
from tests.attacks.known import (
    NEVER_GROUPS,
    SUPPRESSED_GROUPS,
    TRAINED_GROUPS,
    KnownWorld,
    both_phrasings,
    known_world,
    learn,
)
from tests.callbacks.tiny_models import learnt, saved, validated
from tests.conftest import FORGET, PLAIN, RETAIN, as_examples

QUESTIONS = Probe("forget_questions", "question", as_examples(FORGET), "forget", PLAIN, rows_of="forget")
REPHRASED = Probe(
    "forget_rephrased",
    "question",
    [replace(row, prompt=f"is it that {row.prompt}") for row in QUESTIONS.examples],
    "forget",
    PLAIN,
    rows_of="forget",
)
KEPT = Probe("retain_questions", "question", as_examples(RETAIN), "retain", PLAIN)
PROBES = [QUESTIONS, REPHRASED, KEPT]
SHORT = Asking(max_new_tokens=3)


@pytest.fixture(scope="module")
def knows_all(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that learned what must be gone."""
    return learnt(tokenizer, as_examples(FORGET + RETAIN))


def test_rows_say_what_was_answered_to_each_rewrite(
    knows_all: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = PromptAttack(probes=PROBES, asking=SHORT, samples=2, temperature=0.01)
    metrics = validated(callback, knows_all, tokenizer, tmp_path)
    lines = (tmp_path / "rows" / "prompts_model.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["plain_answer"] for row in rows] == [row.answer for row in QUESTIONS.examples]
    assert [row["sampling_answer"] for row in rows] == [f"{row.answer} | {row.answer}" for row in QUESTIONS.examples]
    assert all(row["plain_success"] and row["any_success"] for row in rows)
    assert len(rows[0]["paraphrase_answer"].split(" | ")) == 4  # the data's own rewording and ours
    assert [name for name in REWRITES if f"{name}_success" not in rows[0]] == ["answer_prefix"]  # one word
    for row in rows:
        for name in REWRITES:
            if f"{name}_guessed" in row:
                assert row[f"{name}_above"] == row[f"{name}_success"] - row[f"{name}_guessed"]
    assert metrics["prompts/plain_success"] == metrics["prompts/any_success"] == 1
    assert 0 < metrics["prompts/plain_success_low"] < metrics["prompts/plain_success_high"] == 1
    assert metrics["prompts/plain_above"] == sum(row["plain_above"] for row in rows) / len(rows)
    assert metrics["prompts/any_above"] <= metrics["prompts/plain_above"]  # which guesses more
    (finding,) = callback.findings()
    assert (finding.question, finding.source, finding.examples, finding.subjects) == ("remembers", "prompts", 6, 2)
    answered, beyond = callback.bars()
    assert [name for name, _ in answered.rows] == [*REWRITES, "any"]
    assert dict(answered.rows)["plain"].value == 1
    assert dict(beyond.rows)["plain"].value == metrics["prompts/plain_above"]


def test_the_same_seed_says_the_same_and_the_weights_stay(
    knows_all: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    found = [
        validated(
            PromptAttack(probes=PROBES, asking=replace(SHORT, seed=seed)), knows_all, tokenizer, tmp_path / str(run)
        )
        for run, seed in enumerate((0, 0, 1))
    ]
    files = [(tmp_path / str(run) / "rows" / "prompts_model.jsonl").read_text() for run in range(3)]
    assert found[0] == found[1]
    assert files[0] == files[1] != files[2]


def test_a_reference_is_asked_in_the_same_way(
    knows_all: LlamaForCausalLM, reference: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = PromptAttack(["plain", "jailbreak"], probes=PROBES, asking=SHORT, reference=reference)
    metrics = validated(callback, knows_all, tokenizer, tmp_path)
    own, other = ({row.key: row.values for row in callback.measured[name]} for name in ("model", "retain-only"))
    for rewrite in ("plain", "jailbreak", "any"):
        name = f"{rewrite}_success"
        differences = [float(own[key][name]) - float(other[key][name]) for key in own]
        assert metrics[f"prompts/{rewrite}_above_reference"] == pytest.approx(sum(differences) / len(differences))
    assert {"plain_success", "plain_above"} < callback.levels["retain-only"].keys()
    assert "plain_above_reference" not in callback.levels["retain-only"]
    file = str(tmp_path / "rows" / "prompts_retain-only.jsonl")
    again = PromptAttack(["plain", "jailbreak"], probes=PROBES, asking=SHORT, reference=file)
    assert validated(again, knows_all, tokenizer, tmp_path / "again") == metrics
    otherwise = PromptAttack(["plain"], probes=PROBES, asking=SHORT, reference=file)
    with pytest.raises(MisconfigurationError, match="so that its numbers are of something else"):
        validated(otherwise, knows_all, tokenizer, tmp_path / "otherwise")


def test_one_subject_can_be_compared_with_a_reference_alone(
    knows_all: LlamaForCausalLM, reference: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Nobody else is asked whose facts could be put in the place; and one subject is a sample of one."""
    about_ada = replace(QUESTIONS, examples=[row for row in QUESTIONS.examples if row.subject == "ada"])
    alone = PromptAttack(["plain"], probes=[about_ada], asking=SHORT)
    assert "prompts/plain_above" not in validated(alone, knows_all, tokenizer, tmp_path)
    assert alone.findings() == []
    callback = PromptAttack(["plain"], probes=[about_ada], asking=SHORT, reference=reference)
    metrics = validated(callback, knows_all, tokenizer, tmp_path / "reference")
    level = metrics["prompts/plain_above_reference"]
    assert level > 0
    assert metrics["prompts/plain_above_reference_low"] == pytest.approx(level - clopper_pearson(0, 1).high)
    (finding,) = callback.findings()
    assert (finding.examples, finding.subjects) == (3, 1)
    assert "above a model that never saw it" in finding.measure


def test_without_relations_and_a_reference_a_few_answers_that_follow_from_questions_are_nothing() -> None:
    def said(successes: int, relation: str | None) -> tuple[str, list[str]]:
        values = [{"plain_success": n < successes, "plain_guessed": 0.0} for n in range(200)]
        callback = PromptAttack()
        callback.probes = [replace(QUESTIONS, examples=[replace(QUESTIONS.examples[0], relation=relation)])]
        rows = [MeasuredRow("forget", "forget", n, f"p{n}", "", dict(own)) for n, own in enumerate(values)]
        callback.measured = {"after": rows}
        (finding,) = callback.findings()
        return finding.verdict, callback.notes()

    assert said(8, "home") == ("yes", [])
    verdict, (note,) = said(8, None)
    assert verdict == "no" and "only a reference" in note
    assert said(60, None)[0] == "yes"


def test_what_it_needs_is_said(knows_all: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    texts = Probe("forget", "text", as_examples(FORGET), "forget", PLAIN)
    with pytest.raises(MisconfigurationError, match=r"PromptAttack asks questions, .* texts alone"):
        validated(PromptAttack(probes=[texts]), knows_all, tokenizer, tmp_path)
    with pytest.raises(MisconfigurationError, match=r"few_shot_retain applies to none .*\(forget_questions\)"):
        validated(PromptAttack(["few_shot_retain"], probes=[QUESTIONS]), knows_all, tokenizer, tmp_path)
    with pytest.raises(MisconfigurationError, match="rewrites must be some of plain, paraphrase"):
        PromptAttack(["shout"])  # type: ignore[list-item]
    with pytest.raises(MisconfigurationError, match="samples must be >= 1, got 0"):
        PromptAttack(samples=0)
    with pytest.raises(MisconfigurationError, match="temperature > 0"):
        PromptAttack(temperature=0)


def test_its_settings_can_be_written_in_a_configuration() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PromptAttack, "attack")
    own = ["--attack.rewrites=[plain,sampling]", "--attack.rewriting.pairs=3", "--attack.samples=2"]
    config = parser.parse_args(["--attack=PromptAttack", *own, "--attack.asking.max_new_tokens=8"])
    attack = parser.instantiate_classes(config).attack
    assert (attack.rewrites, attack.rewriting.pairs) == (["plain", "sampling"], 3)
    assert (attack.prompting.samples, attack.prompting.asking.max_new_tokens) == (2, 8)


# --- Models of which is known what they know ---------------------------------------------------------------------


def named(groups: Sequence[Probe], name: str) -> list[Probe]:
    return [replace(probe, name=f"{name}{number}") for number, probe in enumerate(groups)]


@pytest.fixture(scope="module")
def world() -> KnownWorld:
    return known_world()


def never_saw(world: KnownWorld) -> LlamaForCausalLM:
    """A network that learned the kept facts alone."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network: LlamaForCausalLM = LlamaForCausalLM(world.knows.config)
        rows = both_phrasings(world.kept.examples)
        learn(network, world.tokenizer, rows, network.parameters(), epochs=40, rate=4e-3)
    network.eval()
    return network


@pytest.fixture(scope="module")
def attacked(world: KnownWorld, tmp_path_factory: pytest.TempPathFactory) -> PromptAttack:
    """Every group asked once, of the network and of one that never saw any of them."""
    folder = tmp_path_factory.mktemp("attacked")
    callback = PromptAttack(
        probes=[*named(world.never, "never"), *named(world.trained, "trained"), world.kept],
        asking=Asking(max_new_tokens=2, batch_size=256),
        reference=saved(never_saw(world), world.tokenizer, folder / "reference"),
    )
    validated(callback, world.knows, world.tokenizer, folder)
    return callback


def of_group(attacked: PromptAttack, group: str, models: Sequence[str]) -> PromptAttack:
    """The attack as if the group were all that there is to forget."""
    alone = copy(attacked)
    alone.measured = {name: [row for row in attacked.measured[name] if row.probe == group] for name in models}
    return alone


MODELS = pytest.mark.parametrize("models", [["model"], ["model", "retain-only"]], ids=["guessing", "reference"])


@pytest.mark.slow
@MODELS
def test_models_that_never_knew_are_not_accused(attacked: PromptAttack, models: Sequence[str]) -> None:
    """At most 2 of 40: with 95 % confidence at most 17 % of such sets are called remembered."""
    verdicts = [of_group(attacked, f"never{n}", models).findings()[0].verdict for n in range(NEVER_GROUPS)]
    assert clopper_pearson(verdicts.count("yes"), NEVER_GROUPS).high < 0.17


@pytest.mark.slow
@MODELS
@pytest.mark.parametrize("rewrite", ["in_context", "few_shot_retain", "sampling", "any"])
def test_more_guesses_are_not_taken_for_knowledge(attacked: PromptAttack, models: Sequence[str], rewrite: str) -> None:
    """One rewrite's own interval lies above 0 about as seldom as it may."""
    groups = [of_group(attacked, f"never{n}", models) for n in range(NEVER_GROUPS)]
    levels = [group.summarize(group.current(), {}) for group in groups]
    metric = "above_reference" if len(models) > 1 else "above"
    alarms = sum((each[f"{rewrite}_{metric}_low"] or 0.0) > 0 for each in levels)
    assert clopper_pearson(alarms, NEVER_GROUPS).low < 0.05


@pytest.mark.slow
@MODELS
def test_models_that_know_are_found_out(attacked: PromptAttack, models: Sequence[str]) -> None:
    verdicts = [of_group(attacked, f"trained{n}", models).findings()[0].verdict for n in range(TRAINED_GROUPS)]
    assert verdicts.count("yes") >= 0.9 * TRAINED_GROUPS


@pytest.mark.slow
def test_what_the_output_alone_hides_comes_out_in_other_words(world: KnownWorld, tmp_path: Path) -> None:
    """Asked plainly the network has nothing to say about these people; the blocks below still know."""
    hidden = named(world.trained[:SUPPRESSED_GROUPS], "hidden")
    callback = PromptAttack(probes=[*hidden, world.kept], asking=Asking(max_new_tokens=2, batch_size=256))
    metrics = validated(callback, world.suppressed, world.tokenizer, tmp_path)
    assert metrics["prompts/plain_success"] < 0.05
    (finding,) = callback.findings()
    assert finding.verdict == "yes"
    assert "the rewrite plain" not in finding.measure
