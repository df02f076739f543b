"""QuantizationAttack on models whose answer is known, and beside the other callbacks of a Trainer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.knowledge import Asking
from soul_lightning.attacks.quantization import quantized_copy
from soul_lightning.callbacks import (
    LogitAnalysis,
    MembershipInference,
    Memorization,
    QuantizationAttack,
    Restoration,
    Utility,
)
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.excess import clopper_pearson
from soul_lightning.protocols import Probe
from soul_lightning.reports.findings import Finding
from soul_lightning.scoring.measured_rows import MeasuredRow
from tests.attacks.hidden_by_little import hidden_by_little
from tests.attacks.known import KnownWorld, known_world
from tests.callbacks.tiny_models import FORGET_PROBE, PROBES, learnt, saved, unlearning, validated
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

QUESTIONS = Probe("forget", "question", as_examples(FORGET), "forget", PLAIN)


@pytest.fixture(scope="module")
def half_way(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that knows some rows, and that rounding changes."""
    return learnt(tokenizer, as_examples(FORGET), steps=12)


@pytest.fixture(scope="module")
def world() -> KnownWorld:
    return known_world()


@pytest.fixture(scope="module")
def hidden(world: KnownWorld) -> LlamaForCausalLM:
    return hidden_by_little(world, world.trained)


def audited(network: LlamaForCausalLM, world: KnownWorld, folder: Path, **settings: Any) -> dict[str, Finding]:
    """A finding of each group of facts by itself, from one run over all of them."""
    groups = {f"{kind}{n}": probe for kind in ("trained", "never") for n, probe in enumerate(getattr(world, kind))}
    probes = [replace(probe, name=name) for name, probe in groups.items()]
    asking = Asking(max_new_tokens=2, other_answers=1)
    callback = QuantizationAttack(probes=probes, tokenizer=world.tokenizer, asking=asking, **settings)
    validated(callback, network, world.tokenizer, folder)
    rows, found = callback.measured["model"], {}
    for name in groups:
        callback.measured["model"] = [row for row in rows if row.probe == name]
        (found[name],) = callback.findings()
    return found


def verdicts(found: dict[str, Finding], kind: str, verdict: str) -> int:
    return sum(finding.verdict == verdict for name, finding in found.items() if name.startswith(kind))


@pytest.mark.slow
def test_what_little_hides_comes_back_and_what_was_never_known_does_not(
    hidden: LlamaForCausalLM, world: KnownWorld, tmp_path: Path
) -> None:
    """20 groups of 24 facts come back, and 40 that nobody knew do not: rounded, it guesses where it was silent."""
    found = audited(hidden, world, tmp_path)
    hits, alarms = verdicts(found, "trained", "yes"), verdicts(found, "never", "yes")
    print(f"{hits} of {len(world.trained)} found; {alarms} false alarms, {clopper_pearson(alarms, len(world.never))}")
    assert hits / len(world.trained) >= 0.9
    assert clopper_pearson(alarms, len(world.never)).high < 0.15
    assert {finding.measure.split(" under ")[1][:4] for name, finding in found.items() if name[0] == "t"} == {"int4"}


@pytest.mark.slow
def test_beside_a_model_that_never_knew(hidden: LlamaForCausalLM, world: KnownWorld, tmp_path: Path) -> None:
    """Here a model that knows all facts, before and after: it gains nothing, and what nobody knew is nobody's gain."""
    world.knows.save_pretrained(tmp_path / "reference")
    world.tokenizer.save_pretrained(tmp_path / "reference")
    found = audited(hidden, world, tmp_path, reference=str(tmp_path / "reference"))
    assert verdicts(found, "trained", "yes") / len(world.trained) >= 0.9
    assert clopper_pearson(verdicts(found, "never", "yes"), len(world.never)).high < 0.15
    same = audited(hidden, world, tmp_path, reference=str(tmp_path / "rows" / "quantization_model.jsonl"))
    assert verdicts(same, "trained", "yes") == verdicts(same, "never", "yes") == 0  # it comes back in the reference too


@pytest.mark.slow
def test_a_model_that_knows_or_hides_by_its_output_gains_nothing(world: KnownWorld, tmp_path: Path) -> None:
    """Four groups of facts are hidden by the last block, the others are known."""
    found = audited(world.suppressed, world, tmp_path)
    assert verdicts(found, "trained", "yes") == 0
    assert clopper_pearson(verdicts(found, "never", "yes"), len(world.never)).high < 0.15


def test_every_number_is_that_of_the_rounded_model_itself(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Callbacks before and behind the attack measure copies as they measure a model that was rounded beforehand."""
    reference = saved(make_network(len(tokenizer), seed=3), tokenizer, tmp_path / "reference")

    def callbacks() -> list[Any]:
        return [
            Utility(max_new_tokens=4),
            Memorization(probes=[FORGET_PROBE], tokenizer=make_copy(tokenizer), answer=False),
            MembershipInference(probes=PROBES, reference=reference, attacks=["loss", "gradient_norm"]),
            LogitAnalysis(),
            Restoration(models={"clean": reference}, max_new_tokens=4, reports=False),
        ]

    attack = QuantizationAttack(["int8", "int4"], group_size=16, probes=[QUESTIONS])
    before = fingerprint(half_way)
    beside = callbacks()
    found = validated([*beside[:2], attack, *beside[2:]], half_way, tokenizer, tmp_path)
    assert fingerprint(half_way) == before
    capsys.readouterr()
    columns: dict[str, Any] = {"none": half_way}
    columns |= {scheme: quantized_copy(half_way, scheme, 16, "the test") for scheme in attack.schemes}
    measured = 0
    for scheme, network in columns.items():
        for name, value in validated(callbacks(), network, tokenizer, tmp_path / scheme).items():
            if value == value and f"quantization/{scheme}/{name}" in found:
                assert found[f"quantization/{scheme}/{name}"] == pytest.approx(value, abs=1e-5), name
                measured += 1
    others = [name for name in found if name.startswith("quantization/") and name.count("/") == 3]
    assert measured == len(others) > 60
    assert {name.split("/")[2] for name in others} == {"utility", "memorization", "membership", "logits", "restoration"}
    assert found["quantization/none/utility/retain_probability"] == found["utility/retain_probability"]
    assert found["quantization/int4/utility/retain_probability"] != found["utility/retain_probability"]


def make_copy(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Another object: passes are not shared with it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )


def test_the_table_shows_before_and_after(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validated([QuantizationAttack(probes=[QUESTIONS]), Utility(answer=False)], half_way, tokenizer, tmp_path)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    start = lines.index("Before (none) and after rounding the weights")
    assert next(line for line in lines[start:] if "metric" in line).replace("┃", "").split() == [
        "metric", "none", "int8", "int4"
    ]  # fmt: skip
    named = [line.strip("│ ").split(" ")[0] for line in lines[start:]]
    assert named.index("known") < named.index("gained") < named.index("utility") < named.index("retain_perplexity")


def test_after_a_fit_too_and_training_is_as_it_was(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    weights = []
    for added in (False, True):
        attack = QuantizationAttack(["int4"], probes=[QUESTIONS], every_n_epochs=1, before_training=True)
        trainer: Trainer = make_trainer(
            tmp_path, max_epochs=2, callbacks=[attack, Utility(answer=False)] if added else []
        )
        module = unlearning(tokenizer)
        torch.manual_seed(0)
        trainer.fit(module, TinyDataModule())
        weights.append(fingerprint(module.network))
    assert weights[0] == weights[1]
    assert {"before", "after"} == set(attack.measured)
    assert trainer.callback_metrics["quantization/int4/utility/retain_probability"] > 0
    summary = attack.summary()
    assert summary["quantization/before/int4/known"] is not None and "quantization/int4/gained" in summary


def test_rows_hold_answers_and_what_was_gained(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    attack = QuantizationAttack(["int4"], probes=[QUESTIONS])
    metrics = validated(attack, half_way, tokenizer, tmp_path)
    rows = attack.current()
    for row in rows:
        worth = {s: float(row.values[f"{s}_known"]) - float(row.values[f"{s}_guessed"]) for s in ("none", "int4")}
        assert row.values["int4_gained"] == worth["int4"] - worth["none"]
        assert isinstance(row.values["none_answer"], str)
    gained = [float(row.values["int4_gained"]) for row in rows]
    assert metrics["quantization/int4/gained"] == pytest.approx(sum(gained) / len(gained))
    (chart,) = attack.bars()
    assert [label for label, _ in chart.rows] == ["not rounded", "int4"]
    known = [metrics[f"quantization/{scheme}/known"] for scheme in ("none", "int4")]
    assert [mean.value for _, mean in chart.rows] == pytest.approx(known)
    assert all(mean.low < mean.value < mean.high for _, mean in chart.rows)


def finding_of(rows: list[MeasuredRow], **settings: Any) -> Finding:
    attack = QuantizationAttack(**settings)
    attack.measured["after"] = rows
    (finding,) = attack.findings()
    return finding


def rows_that_gain(int8: list[float], int4: list[float], **values: Any) -> list[MeasuredRow]:
    return [
        MeasuredRow("forget", "forget", n, f"p{n}", "", {"int8_gained": fine, "int4_gained": coarse, **values})
        for n, (fine, coarse) in enumerate(zip(int8, int4, strict=True))
    ]


def test_the_finding_is_that_of_the_scheme_that_says_most() -> None:
    asked = {"int8_known": False, "int4_known": True}
    much, nothing = [1.0, 0.9] * 20, [0.02, -0.02] * 20
    finding = finding_of(rows_that_gain(nothing, much, **asked))
    assert (finding.question, finding.verdict, finding.examples, finding.subjects) == ("recovers", "yes", 40, 40)
    assert finding.measure == "of 40 questions answered more under int4 than before rounding, above guessing"
    assert finding.value.value == pytest.approx(0.95) and finding.confidence == 0.95
    assert finding_of(rows_that_gain(much, nothing, **asked)).measure.startswith(
        "of 40 questions answered more under int8"
    )
    assert finding_of(rows_that_gain(nothing, nothing, **asked)).verdict == "no"
    assert finding_of(rows_that_gain([0.0] * 2, [0.0] * 2, **asked)).verdict == "unclear"


def test_a_reference_that_loses_what_it_guessed_proves_nothing() -> None:
    attack = QuantizationAttack(["int4"])
    asked: dict[str, Any] = {"int4_known": False}
    attack.measured = {"retain-only": rows_that_gain([0.0] * 40, [-0.4, -0.2] * 20, **asked)}
    for gained, verdict in (([0.02, -0.02], "no"), ([0.3, 0.4], "yes")):
        attack.measured["after"] = rows_that_gain([0.0] * 40, gained * 20, **asked)
        assert [finding.verdict for finding in attack.findings()] == [verdict]


def test_more_schemes_make_wider_intervals() -> None:
    rows = rows_that_gain([0.0] * 40, [1.0, 0.0] * 20, int8_known=False, int4_known=True)
    alone, both = (finding_of(rows, schemes=schemes).value for schemes in (["int4"], ["int8", "int4"]))
    assert both.high - both.low > alone.high - alone.low


def test_of_texts_a_little_probability_is_nothing() -> None:
    """Every model moves a little where it is rounded, and many rows would make it certain."""
    finding = finding_of(rows_that_gain([0.0] * 40, [0.01, 0.02] * 20), schemes=["int4"])
    assert finding.verdict == "no" and "texts gain under int4" in finding.measure
    assert finding_of(rows_that_gain([0.0] * 40, [0.5, 0.6] * 20)).verdict == "yes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schemes": ["int5"]}, "QuantizationAttack: schemes must be some of int8, int4, nf4, .*got .*int5"),
        ({"group_size": 1}, "QuantizationAttack: .*group_size >= 2, got .* and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        QuantizationAttack(**settings)


def test_rows_of_other_schemes_are_no_reference(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    validated(QuantizationAttack(["int4"], probes=[QUESTIONS]), half_way, tokenizer, tmp_path)
    rows = str(tmp_path / "rows" / "quantization_model.jsonl")
    same = QuantizationAttack(["int4"], probes=[QUESTIONS], reference=rows)
    validated(same, half_way, tokenizer, tmp_path)
    (finding,) = same.findings()
    assert finding.verdict != "yes"
    assert same.compared("int4_gained")["above a model that never saw it"].value == 0
    with pytest.raises(MisconfigurationError, match="measure that model again"):
        validated(
            QuantizationAttack(["int4"], group_size=8, probes=[QUESTIONS], reference=rows),
            half_way,
            tokenizer,
            tmp_path,
        )


def test_texts_alone_are_attacked(
    half_way: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    texts = as_examples(RETAIN)
    attack = QuantizationAttack(["int4"], probes=[Probe("forget", "text", texts, "forget", PLAIN)])
    metrics = validated(attack, half_way, tokenizer, tmp_path)
    assert metrics["quantization/int4/gained"] == pytest.approx(
        metrics["quantization/int4/probability"] - metrics["quantization/none/probability"], abs=1e-6
    )
    (finding,), (chart,) = attack.findings(), attack.bars()
    assert finding.examples == len(texts)
    assert chart.x_label == "probability of the text (0 to 1)" and len(chart.rows) == 2
