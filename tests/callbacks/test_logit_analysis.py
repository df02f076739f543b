"""LogitAnalysis against log-probabilities from one forward pass an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.lens import LensKind, LensTraining
from soul_lightning.callbacks import LogitAnalysis
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Example, Probe
from tests.callbacks.tiny_models import learnt, said, validated
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

FALSE = {"lives": ("oslo", "tailor"), "works": ("judge",), "plays": ("tailor", "flute and harp")}
EVERY_OTHER_ANSWER = 100
"""So many random answers that all there are take part, and chance does not."""


def with_false_answers(pairs: Sequence[tuple[str, str]]) -> list[Example]:
    return [replace(row, perturbed=FALSE[row.relation or ""]) for row in as_examples(list(pairs))]


CORRUPTED = Probe("corrupted", "question", with_false_answers(FORGET), "corrupted", PLAIN)
CONTROL = Probe("control", "question", with_false_answers(RETAIN), "control", PLAIN)


@pytest.fixture(scope="module")
def half_corrupted(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that learned the truth of some rows and the lie of others."""
    lies = [replace(row, answer=row.perturbed[0]) for row in CORRUPTED.examples[1::2]]
    return learnt(tokenizer, [*CORRUPTED.examples[::2], *lies, *CONTROL.examples[:5]], steps=25)


def log_prob(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, row: Example, answer: str) -> float:
    return -said(network, tokenizer, row.prompt, answer).mean_nll


def by_hand(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Example], prefix: str
) -> dict[str, float]:
    correct, corrupted, unrelated = [], [], []
    for row in rows:
        answers = {other.answer for other in rows if other.relation == row.relation} - {row.answer, *row.perturbed}
        correct.append(log_prob(network, tokenizer, row, row.answer))
        corrupted.append(mean(log_prob(network, tokenizer, row, answer) for answer in row.perturbed))
        unrelated.append(mean(log_prob(network, tokenizer, row, answer) for answer in answers))
    levels = {
        "correct": mean(correct),
        "corrupted": mean(corrupted),
        "random": mean(unrelated),
        "corrupted_margin": mean(correct) - mean(corrupted),
        "random_margin": mean(correct) - mean(unrelated),
        "correct_first": mean(true > max(others) for true, *others in zip(correct, corrupted, unrelated, strict=True)),
    }
    return {f"logits/{prefix}{name}": level for name, level in levels.items()}


def test_means_margins_and_the_share_of_right_answers(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = LogitAnalysis(random_answers=EVERY_OTHER_ANSWER, probes=[CORRUPTED, CONTROL])
    metrics = validated(callback, half_corrupted, tokenizer, tmp_path)
    expected = by_hand(half_corrupted, tokenizer, CORRUPTED.examples, "")
    expected |= by_hand(half_corrupted, tokenizer, CONTROL.examples, "control_")
    assert metrics == {name: pytest.approx(value, abs=1e-4) for name, value in expected.items()}
    assert 0 < metrics["logits/correct_first"] < 1


def test_the_draw_of_random_answers_is_the_seeds(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    words = "paris rome oslo baker pilot judge tailor cello".split()
    people = "ada bela cora dina egon finn gerd hana".split()
    rows = [
        Example(word, f"{who} lives in", index, relation="lives")
        for index, (who, word) in enumerate(zip(people, words, strict=True))
    ]
    probe = Probe("corrupted", "question", rows, "corrupted", PLAIN)
    drawn = []
    for seed in (0, 0, 1):
        callback = LogitAnalysis(random_answers=2, seed=seed, probes=[probe])
        drawn.append(validated(callback, half_corrupted, tokenizer, tmp_path)["logits/random"])
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_corruption_in_prose_has_no_false_answers(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = [replace(row, perturbed=(), false_text="ada lives in oslo") for row in CORRUPTED.examples]
    probe = replace(CORRUPTED, examples=rows)
    metrics = validated(LogitAnalysis(probes=[probe]), half_corrupted, tokenizer, tmp_path)
    assert set(metrics) == {f"logits/{name}" for name in ("correct", "random", "random_margin", "correct_first")}


def test_a_kind_that_one_question_lacks_is_left_out_for_all(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Nobody else is asked what this row is asked, so that there is no random answer to it."""
    alone = replace(CORRUPTED.examples[0], relation="born")
    probe = replace(CORRUPTED, examples=[alone, *CORRUPTED.examples[1:]])
    metrics = validated(LogitAnalysis(probes=[probe]), half_corrupted, tokenizer, tmp_path)
    assert set(metrics) == {f"logits/{name}" for name in ("correct", "corrupted", "corrupted_margin", "correct_first")}


def test_questions_that_are_cut_away_leave_the_others(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    long = replace(CORRUPTED.examples[0], prompt="ada lives in paris and works as a baker and", index=9)
    probe = replace(CORRUPTED, examples=[*CORRUPTED.examples, long])
    cut = LogitAnalysis(random_answers=EVERY_OTHER_ANSWER, max_tokens=10, probes=[probe])
    whole = LogitAnalysis(random_answers=EVERY_OTHER_ANSWER, probes=[CORRUPTED])
    found = [validated(callback, half_corrupted, tokenizer, tmp_path) for callback in (cut, whole)]
    assert len(cut.measured["model"]) == len(FORGET) + 1
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_distributions_reach_tensorboard(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    callback = LogitAnalysis(probes=[CORRUPTED, CONTROL])
    logger = TensorBoardLogger(tmp_path, name="board")
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[callback], logger=logger)
    module = UnlearningModule(make_network(len(tokenizer)), retain=CrossEntropy(), tokenizer=tokenizer)
    trainer.fit(module, TinyDataModule(streams=("retain",)))
    events = EventAccumulator(logger.log_dir, size_guidance={"histograms": 0})
    events.Reload()
    assert set(events.Tags()["histograms"]) == {f"logits/{kind}_answers" for kind in ("correct", "corrupted", "random")}
    histograms = events.Histograms("logits/correct_answers")
    assert [event.step for event in histograms] == [0, 2, 4]  # optimizer steps, as of the numbers beside them
    last = histograms[-1].histogram_value
    assert last.num == len(FORGET)
    assert last.sum / last.num == pytest.approx(callback.summary()["logits/correct"], rel=1e-4)


def test_no_questions_about_corrupted_people_are_said_before_training(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match=r"question and role corrupted \(there are: control \(question\)\)"):
        validated(LogitAnalysis(probes=[CONTROL]), half_corrupted, tokenizer, tmp_path)
    with pytest.raises(MisconfigurationError, match="LogitAnalysis: random_answers must be >= 1, got 0"):
        LogitAnalysis(random_answers=0)


@pytest.mark.parametrize("lens", ["logit", "tuned"])
def test_a_lens_reads_every_layer_and_the_last_as_the_model_has_it(
    lens: LensKind, half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    before = fingerprint(half_corrupted)
    callback = LogitAnalysis(probes=[CORRUPTED, CONTROL], lens=lens, lens_training=LensTraining(steps=3))
    metrics = validated(callback, half_corrupted, tokenizer, tmp_path)
    own = {name.removeprefix("logits/"): value for name, value in metrics.items() if "layer" not in name}
    for name, value in own.items():
        layers = [metrics[f"logits/layer_{layer}/{name}"] for layer in range(3)]
        assert layers[-1] == pytest.approx(value, abs=1e-4)
    assert len(metrics) == 4 * len(own)
    assert metrics["logits/layer_0/correct"] < metrics["logits/correct"]
    assert set(callback.columns()["model"]) == set(own)
    assert fingerprint(half_corrupted) == before


def test_a_lens_draws_its_curves_during_a_fit_that_goes_on_as_without(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    ends = []
    kinds: tuple[LensKind, ...] = ("none", "tuned")
    for lens in kinds:
        callback = LogitAnalysis(probes=[CORRUPTED, CONTROL], lens=lens, lens_training=LensTraining(steps=2))
        logger = TensorBoardLogger(tmp_path, name=lens)
        module = UnlearningModule(make_network(len(tokenizer)), retain=CrossEntropy(), tokenizer=tokenizer)
        make_trainer(tmp_path, callbacks=[callback], logger=logger).fit(module, TinyDataModule(streams=("retain",)))
        ends.append(fingerprint(module.network))
    assert ends[0] == ends[1]
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("logits/layers")] == [0, 2]


def test_a_lens_is_chosen_by_name_and_needs_something_to_learn_from(
    half_corrupted: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match="lens must be none, logit or tuned, got 'x'"):
        LogitAnalysis(lens="x")  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match="a tuned lens learns from questions or texts of the roles retain"):
        validated(LogitAnalysis(probes=[CORRUPTED], lens="tuned"), half_corrupted, tokenizer, tmp_path)
