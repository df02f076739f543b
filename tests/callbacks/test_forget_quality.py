"""ForgetQuality against p-values of truth ratios computed by hand, and on a model that collapsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from scipy.stats import ks_2samp
from torch.optim import AdamW
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import ForgetQuality
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.gradient_ascent import GradientAscent
from soul_lightning.protocols import Example, Probe
from tests.callbacks.tiny_models import learnt, said, saved, validated
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_trainer

FALSE = {"lives": ("rome and paris", "harp"), "works": ("pilot", "a judge"), "plays": ("oboe and harp", "oslo")}


def with_false_answers(pairs: Sequence[tuple[str, str]]) -> list[Example]:
    """Rows with two false answers each; every second one has the truth in other words."""
    return [
        replace(row, perturbed=FALSE[row.relation or ""], paraphrase=f"the {row.answer}" if row.index % 2 else None)
        for row in as_examples(list(pairs))
    ]


FORGET_PROBE = Probe("forget", "question", with_false_answers(FORGET), "forget", PLAIN)
RETAIN_PROBE = Probe("retain", "question", with_false_answers(RETAIN), "retain", PLAIN)


@pytest.fixture(scope="module")
def knowing(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that learned all rows."""
    return learnt(tokenizer, as_examples([*FORGET, *RETAIN]))


@pytest.fixture(scope="module")
def retain_only(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that never saw the forget rows."""
    return learnt(tokenizer, as_examples(RETAIN))


@pytest.fixture(scope="module")
def reference(
    retain_only: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The folder of the network that never saw the forget rows."""
    return saved(retain_only, tokenizer, tmp_path_factory.mktemp("retain_only"))


def ratios(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, probe: Probe, arithmetic: bool = False
) -> list[float]:
    """R of each row: the false answers' probability by the true one's."""
    found = []
    for row in probe.examples:
        true = said(network, tokenizer, row.prompt, row.paraphrase or row.answer)
        false = [said(network, tokenizer, row.prompt, answer) for answer in row.perturbed]
        geometric = math.exp(-mean(each.mean_nll for each in false))
        wrong = mean(each.probability for each in false) if arithmetic else geometric
        found.append(wrong / true.probability)
    return found


def test_forget_quality_is_the_test_between_both_models_truth_ratios(
    knowing: LlamaForCausalLM,
    retain_only: LlamaForCausalLM,
    reference: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    callback = ForgetQuality(reference=reference, max_new_tokens=4, probes=[FORGET_PROBE, RETAIN_PROBE])
    metrics = validated(callback, knowing, tokenizer, tmp_path)
    own, other = (ratios(network, tokenizer, FORGET_PROBE) for network in (knowing, retain_only))
    arithmetic = [ratios(knowing, tokenizer, probe, arithmetic=True) for probe in (FORGET_PROBE, RETAIN_PROBE)]
    expected = {
        "forget_quality": ks_2samp(own, other).pvalue,
        "forget_truth_ratio": mean(min(ratio, 1 / ratio) for ratio in own),
        "prob_mean": mean(1 / (1 + ratio) for ratio in own),
        "soul_forget_quality": ks_2samp(arithmetic[0], arithmetic[1]).pvalue,
        "fluency": 1.0,
    }
    assert metrics == {f"forget_quality/{name}": pytest.approx(value, rel=1e-3) for name, value in expected.items()}
    assert metrics["forget_quality/forget_quality"] < 0.2  # what it knows shows, as far as it can in six rows
    levels = callback.summary()
    assert levels["forget_quality/retain-only/forget_truth_ratio"] == pytest.approx(
        mean(min(ratio, 1 / ratio) for ratio in other), rel=1e-3
    )
    assert "forget_quality/retain-only/forget_quality" not in levels


def test_the_reference_itself_cannot_be_told_apart(
    retain_only: LlamaForCausalLM, reference: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    metrics = validated(ForgetQuality(reference=reference, probes=[FORGET_PROBE]), retain_only, tokenizer, tmp_path)
    assert metrics["forget_quality/forget_quality"] == 1


def test_what_is_not_given_is_not_measured(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    plain = replace(RETAIN_PROBE, examples=[replace(row, perturbed=()) for row in RETAIN_PROBE.examples])
    callback = ForgetQuality(fluency_answers=0, probes=[FORGET_PROBE, plain])
    metrics = validated(callback, knowing, tokenizer, tmp_path)
    assert set(metrics) == {"forget_quality/forget_truth_ratio", "forget_quality/prob_mean"}


def test_so_many_questions_are_answered_for_fluency(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    texts = replace(FORGET_PROBE, kind="text")
    asked = Probe("asked", "question", FORGET_PROBE.examples, "forget", PLAIN, rows_of="forget")
    callback = ForgetQuality(fluency_answers=2, max_new_tokens=4, probes=[texts, asked])
    validated(callback, knowing, tokenizer, tmp_path)
    answered = [row for row in callback.measured["model"] if "answer" in row.values]
    assert len(answered) == 2 < len(callback.measured["model"]) == len(FORGET)
    assert [row.values["answer"] for row in answered] == [FORGET[row.index][1] for row in answered]


def test_gibberish_is_said_beside_the_forget_quality(
    reference: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gradient ascent at a high rate until the model collapses: its answers are no language any more."""
    monkeypatch.setenv("COLUMNS", "80")
    network = learnt(tokenizer, as_examples([*FORGET, *RETAIN]))
    optimizer = lambda parameters: AdamW(parameters, lr=3e-2)  # noqa: E731
    module = UnlearningModule(network, GradientAscent(), tokenizer=tokenizer, optimizer=optimizer, max_grad_norm=None)
    callback = ForgetQuality(reference=reference, max_new_tokens=16, probes=[FORGET_PROBE, RETAIN_PROBE])
    make_trainer(tmp_path, max_epochs=6, callbacks=[callback]).fit(module, TinyDataModule(streams=("forget",)))
    metrics = callback.summary()
    assert metrics["forget_quality/before/fluency"] == 1
    fluency = metrics["forget_quality/fluency"]
    assert fluency is not None and fluency < 0.5
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    table = {line[1]: line[3::2] for line in lines if len(line) > 3 and line[0] == "│"}
    assert {"forget_quality", "fluency"} <= set(table)
    assert float(table["fluency"][-1]) == pytest.approx(fluency, abs=0.01)
    assert float(table["forget_quality"][-1]) > 0.5 > float(table["forget_quality"][1])  # as if it had never learnt
    notes = " ".join(printed.split("┘")[1].split())
    assert f"only {fluency:.0%} of the answers of the model 'after' are fluent" in notes
    assert "gibberish" in notes
    assert "'before'" not in notes and "'retain-only'" not in notes


def test_a_model_that_speaks_gets_no_note(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validated(ForgetQuality(max_new_tokens=4, probes=[FORGET_PROBE]), knowing, tokenizer, tmp_path)
    assert "gibberish" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fluency_answers": -1}, "fluency_answers must be >= 0, got -1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be >= 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"ForgetQuality: {message}"):
        ForgetQuality(**settings)


def test_rows_without_false_answers_are_said_before_training(
    knowing: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = [replace(row, perturbed=()) if row.index == 2 else row for row in FORGET_PROBE.examples]
    probes = [replace(FORGET_PROBE, examples=rows)]
    with pytest.raises(MisconfigurationError, match=r"all have false answers .* forget \(forget, question\)"):
        validated(ForgetQuality(probes=list(probes)), knowing, tokenizer, tmp_path)
