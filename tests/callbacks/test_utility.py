"""Utility: its levels against numbers computed by hand, and whole fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import harmonic_mean, mean
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from rouge_score.rouge_scorer import RougeScorer
from torch.optim import AdamW
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import Memorization, Utility
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.likelihood import perplexity
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.measured_rows import MeasuredRow
from tests.callbacks.tiny_models import FORGET_PROBE, KeepsFirstEpoch, continued, learnt, said, validated
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

RETAIN_PROBE = Probe("retain", "text", [replace(row, perturbed=()) for row in as_examples(RETAIN)], "retain", PLAIN)
FALSE = {"lives": ("rome and paris", "harp"), "works": ("pilot", "a judge"), "plays": ("oboe and harp", "oslo")}


def with_false_answers(pairs: Sequence[tuple[str, str]], paraphrased: bool = False) -> list[Example]:
    return [
        replace(row, perturbed=FALSE[row.relation or ""], paraphrase=f"the {row.answer}" if paraphrased else None)
        for row in as_examples(list(pairs))
    ]


NINE = [
    Probe("retain", "question", with_false_answers(RETAIN[:4], paraphrased=True), "retain", PLAIN),
    Probe("real_authors", "question", with_false_answers(RETAIN[4:]), "utility", PLAIN),
    Probe("world_facts", "question", with_false_answers(FORGET[:4]), "utility", PLAIN),
]


@pytest.fixture(scope="module")
def knowing(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that learned most of the rows a little, so that no part is 0 or 1."""
    return learnt(tokenizer, as_examples([*RETAIN, *FORGET]), steps=25)


def parts_by_hand(probe: Probe, network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> list[float]:
    """Probability, ROUGE-L recall and truth ratio of TOFU, from one forward pass an answer."""
    probabilities, recalls, ratios = [], [], []
    for row in probe.examples:
        plain = said(network, tokenizer, row.prompt, row.answer)
        true = said(network, tokenizer, row.prompt, row.paraphrase) if row.paraphrase else plain
        false = [said(network, tokenizer, row.prompt, answer) for answer in row.perturbed]
        options = plain.probability + sum(each.probability for each in false)
        probabilities.append(plain.probability if row.paraphrase else plain.probability / options)
        ratio = math.exp(-mean(each.mean_nll for each in false)) / true.probability
        ratios.append(max(0.0, 1 - ratio))
        answer = continued(network, tokenizer, row.prompt, 4)
        recalls.append(RougeScorer(["rougeL"], use_stemmer=True).score(row.answer, answer)["rougeL"].recall)
    return [mean(probabilities), mean(recalls), mean(ratios)]


def test_three_sets_of_three_parts_give_tofus_model_utility(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    metrics = validated(Utility(probes=list(NINE), max_new_tokens=4), knowing, tokenizer, tmp_path)
    expected: list[float] = []
    for probe in NINE:
        parts = parts_by_hand(probe, knowing, tokenizer)
        assert all(0 < part < 1 for part in parts)
        names = [f"utility/{probe.name}_{part}" for part in ("probability", "rouge_l", "truth_ratio")]
        assert [metrics[name] for name in names] == pytest.approx(parts, abs=1e-4)
        expected += parts
    assert metrics["utility/model_utility"] == pytest.approx(harmonic_mean(expected), abs=1e-4)


def test_model_utility_is_of_three_sets_and_no_others(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    plain = Probe("plain", "question", [replace(row, perturbed=()) for row in NINE[0].examples], "utility", PLAIN)
    found = {}
    for name, probes in {"two": NINE[:2], "with another kind": [*NINE, plain]}.items():
        found[name] = validated(Utility(probes=list(probes), max_new_tokens=4), knowing, tokenizer, tmp_path)
    assert "utility/model_utility" not in found["two"]
    assert "utility/model_utility" in found["with another kind"]
    # Without false answers it is the answer's own probability, and there is no truth ratio.
    own = mean(said(knowing, tokenizer, row.prompt, row.answer).probability for row in plain.examples)
    assert found["with another kind"]["utility/plain_probability"] == pytest.approx(own, abs=1e-4)
    assert "utility/plain_truth_ratio" not in found["with another kind"]


def choices(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[Example]) -> float:
    right = []
    for row in rows:
        costs = [said(network, tokenizer, row.prompt, option).mean_nll for option in (row.answer, *row.perturbed)]
        right.append(costs[0] < min(costs[1:]))
    return mean(right)


def test_accuracy_of_multiple_choice(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    wrong = [replace(row, answer=row.perturbed[0], perturbed=(row.answer,)) for row in NINE[2].examples[:2]]
    rows = [replace(row, index=number) for number, row in enumerate([*NINE[0].examples, *NINE[1].examples, *wrong])]
    probe = Probe("quiz", "multiple_choice", rows, "utility", PLAIN)
    callback = Utility(probes=[probe])
    metrics = validated(callback, knowing, tokenizer, tmp_path)
    expected = choices(knowing, tokenizer, rows)
    assert 0 < expected < 1
    assert metrics == {"utility/quiz_accuracy": pytest.approx(expected)}
    assert len(callback.measured["model"]) == len(rows)


def test_a_model_that_prefers_no_option_is_never_right(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    network = make_network(len(tokenizer))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    probe = Probe("quiz", "multiple_choice", with_false_answers(RETAIN), "utility", PLAIN)
    assert validated(Utility(probes=[probe]), network, tokenizer, tmp_path) == {"utility/quiz_accuracy": 0.0}


@pytest.mark.parametrize("callback", [Utility, Memorization])
def test_answer_false_generates_nothing(
    knowing: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    callback: type[Utility] | type[Memorization],
) -> None:
    probes = [replace(probe, role=role) for probe, role in zip(NINE, ("retain", "forget", "utility"), strict=True)]
    asked: list[int] = []
    generate = CausalLMAdapter.generate

    def counted(adapter: CausalLMAdapter, examples: Sequence[Example], *settings: Any, **named: Any) -> list[str]:
        asked.append(len(examples))
        return generate(adapter, examples, *settings, **named)

    monkeypatch.setattr(CausalLMAdapter, "generate", counted)
    silent = validated(callback(probes=list(probes), answer=False), knowing, tokenizer, tmp_path)
    assert not asked
    answering = validated(callback(probes=list(probes), max_new_tokens=4), knowing, tokenizer, tmp_path)
    assert asked
    assert {name: answering[name] for name in silent} == silent
    more = {name.split("/")[1] for name in set(answering) - set(silent)}
    assert more == (
        {"retain_rouge_l", "world_facts_rouge_l"} if callback is Utility else {"rouge_l", "rouge_l_f1", "fluency"}
    )


def test_texts_are_answered_where_their_rows_are_asked(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    asked = Probe("retain_questions", "question", as_examples(RETAIN), "retain", PLAIN, rows_of="retain")
    metrics = validated(Utility(probes=[RETAIN_PROBE, asked], max_new_tokens=4), knowing, tokenizer, tmp_path)
    answers = [continued(knowing, tokenizer, row.prompt, 4) for row in asked.examples]
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    recalls = [
        scorer.score(row.answer, answer)["rougeL"].recall for row, answer in zip(asked.examples, answers, strict=True)
    ]
    assert metrics["utility/retain_rouge_l"] == pytest.approx(mean(recalls))
    assert not any(name.startswith("utility/retain_questions") for name in metrics)
    silent = Utility(probes=[RETAIN_PROBE, asked], answer=False)
    validated(silent, knowing, tokenizer, tmp_path)
    assert {row.probe for row in silent.measured["model"]} == {"retain"}


def retain_only(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> UnlearningModule:
    optimizer = lambda parameters: AdamW(parameters, lr=1e-2)  # noqa: E731
    return UnlearningModule(network, retain=CrossEntropy(), tokenizer=tokenizer, optimizer=optimizer)


def test_levels_and_their_ratio_to_before(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    held_out = Probe("text", "text", as_examples(FORGET), "utility", PLAIN)
    before = [said(tiny_network, tokenizer, *pair) for pair in RETAIN]
    callback = Utility(probes=[RETAIN_PROBE, held_out], before_training=False)
    module = retain_only(tiny_network, tokenizer)
    make_trainer(tmp_path, max_epochs=3, callbacks=[callback]).fit(module, TinyDataModule())
    assert isinstance(module.network, LlamaForCausalLM)
    after = [said(module.network, tokenizer, *pair) for pair in RETAIN]
    perplexities = [perplexity([row.nll for row in rows], [row.tokens for row in rows]) for rows in (before, after)]
    probabilities = [mean(row.probability for row in rows) for rows in (before, after)]
    summary = callback.summary()
    for name, levels in {"perplexity": perplexities, "probability": probabilities}.items():
        assert summary[f"utility/retain_{name}"] == pytest.approx(levels[1], rel=1e-4)
        assert summary[f"utility/before/retain_{name}"] == pytest.approx(levels[0], rel=1e-4)
        assert summary[f"utility/retain_{name}_relative"] == pytest.approx(levels[1] / levels[0], rel=1e-4)
    assert probabilities[1] > probabilities[0]
    assert {"utility/text_perplexity", "utility/text_perplexity_relative", "utility/text_probability"} <= set(summary)
    assert not any(name.startswith("utility/before/") and name.endswith("_relative") for name in summary)


@pytest.mark.parametrize("level", [1.0, 0.05])  # the latter is that of a token of a long text
@pytest.mark.parametrize(("left", "verdict"), [(0.98, "yes"), (0.9, "unclear"), (0.5, "no")])
def test_useful_is_what_has_nearly_the_probability_that_it_had(level: float, left: float, verdict: str) -> None:
    def rows(share: float) -> list[MeasuredRow]:
        noise = [0.97, 1.03] * 20 if share < 1 else [1.0] * 40
        probabilities = [level * share * (0.5 + n / 80) * each for n, each in enumerate(noise)]
        return [
            MeasuredRow("retain", "retain", n, f"p{n}", "", {"probability": probability})
            for n, probability in enumerate(probabilities)
        ]

    callback = Utility()
    callback.measured = {"before": rows(1.0), "after": rows(left)}
    (finding,) = callback.findings()
    assert (finding.question, finding.verdict) == ("useful", verdict)
    assert finding.value.value == pytest.approx(left, abs=0.005)
    assert finding.value.high - finding.value.low < 0.1
    callback.measured["before"] = [replace(row, values={"probability": 0.0}) for row in rows(1.0)]
    assert callback.findings() == []


def test_a_resumed_run_compares_with_the_same_values(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "one.ckpt"
    straight, resumed = Utility(probes=[RETAIN_PROBE]), Utility(probes=[RETAIN_PROBE])
    callbacks: list[Callback] = [straight, KeepsFirstEpoch(checkpoint)]
    datamodule = TinyDataModule(streams=("retain",))
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=callbacks)
    trainer.fit(retain_only(tiny_network, tokenizer), datamodule)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[resumed])
    module = retain_only(make_network(len(tokenizer), 7), tokenizer)
    trainer.fit(module, TinyDataModule(streams=("retain",)), ckpt_path=checkpoint)
    assert resumed.summary() == pytest.approx(straight.summary())
    assert resumed.summary()["utility/retain_probability_relative"] != pytest.approx(1)


def test_they_share_one_pass(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Two callbacks on the same rows run the network as often as one."""
    runs = []
    for callbacks in (
        [Utility(probes=[RETAIN_PROBE])],
        [Utility(probes=[RETAIN_PROBE]), Utility("u", probes=[RETAIN_PROBE])],
    ):
        network = make_network(len(tokenizer))
        calls: list[bool] = []
        network.register_forward_hook(lambda module, args, output, calls=calls: calls.append(module.training))
        make_trainer(tmp_path, callbacks=list(callbacks)).fit(retain_only(network, tokenizer), TinyDataModule())
        runs.append(calls.count(False))
    assert runs[0] == runs[1] > 0


def test_utility_without_a_set_is_refused(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, callbacks=[Utility(probes=[FORGET_PROBE])])
    with pytest.raises(MisconfigurationError, match="role retain or utility"):
        trainer.fit(retain_only(tiny_network, tokenizer), TinyDataModule())
    assert trainer.global_step == 0


@pytest.mark.parametrize("setting", ["max_new_tokens", "batch_size"])
@pytest.mark.parametrize("callback", [Utility, Memorization])
def test_settings_out_of_range_are_refused(callback: type[Utility] | type[Memorization], setting: str) -> None:
    settings: dict[str, Any] = {setting: 0}
    with pytest.raises(MisconfigurationError, match=f"{callback.__name__}: {setting} must be >= 1, got 0"):
        callback(**settings)
