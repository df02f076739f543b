"""MembershipInference on a network that learned its forget rows by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import MembershipInference
from soul_lightning.callbacks.membership import Attack
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.excess import clopper_pearson
from soul_lightning.metrics.membership import area_under_curve, area_under_curve_interval, privleak
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Probe
from soul_lightning.reports.findings import Verdict
from soul_lightning.scoring.measured_rows import MeasuredRow, read_measured
from tests.callbacks.tiny_models import FORGET_PROBE, learnt, said, saved, validated
from tests.conftest import FORGET, PLAIN, RETAIN, TinyDataModule, as_examples, make_network, make_trainer

RETAIN_PROBE = Probe("retain", "text", as_examples(RETAIN[:4]), "retain", PLAIN)
# Who learns where ada lives half knows where dina lives if it is the same town.
HOLDOUT = [(prompt, answer) for prompt, answer in RETAIN if answer not in dict(FORGET).values()]
HOLDOUT_PROBE = Probe("holdout", "text", as_examples(HOLDOUT), "holdout", PLAIN)
PROBES = [FORGET_PROBE, HOLDOUT_PROBE]


@pytest.fixture(scope="module")
def memorised(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A network that learned the forget rows and nothing else."""
    return learnt(tokenizer, FORGET_PROBE.examples)


@pytest.fixture(scope="module")
def untrained(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the network before it learned anything."""
    return saved(make_network(len(tokenizer)), tokenizer, tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def every_attack(
    memorised: LlamaForCausalLM, untrained: str, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: Any
) -> tuple[dict[str, float], list[MeasuredRow], list[MeasuredRow]]:
    """Metrics, and rows of the model and of the reference."""
    folder = tmp_path_factory.mktemp("every_attack")
    callback = MembershipInference(attacks=list(get_args(Attack)), reference=untrained, probes=PROBES)
    metrics = validated(callback, memorised, tokenizer, folder)
    rows = [read_measured(folder / "rows" / f"membership_{model}.jsonl") for model in ("model", "retain-only")]
    return metrics, rows[0], rows[1]


def column(rows: list[MeasuredRow], role: str, value: str) -> list[float]:
    return [float(row.values[value]) for row in rows if row.role == role]


@pytest.mark.parametrize("attack", ["loss", "zlib", "min_k", "min_k_plus_plus", "gradient_norm", "reference"])
def test_every_attack_finds_what_was_memorised(
    every_attack: tuple[dict[str, float], list[MeasuredRow], list[MeasuredRow]], attack: str
) -> None:
    metrics = every_attack[0]
    area, low, high = (metrics[f"membership/{attack}_auc{end}"] for end in ("", "_low", "_high"))
    assert 0.9 < area <= 1
    assert low <= area <= high
    assert metrics[f"membership/{attack}_tpr"] > 0.5


def test_privleak_is_that_of_both_models_areas(
    every_attack: tuple[dict[str, float], list[MeasuredRow], list[MeasuredRow]],
) -> None:
    metrics, model, reference = every_attack
    for attack in get_args(Attack):
        areas = [
            area_under_curve(*(column(rows, role, attack) for role in ("forget", "holdout")))
            for rows in (model, reference)
        ]
        assert metrics[f"membership/{attack}_auc"] == pytest.approx(areas[0])
        assert 0 < areas[1] < 1
        assert metrics[f"membership/{attack}_privleak"] == pytest.approx(privleak(*areas), abs=1e-4)
    assert metrics["membership/loss_privleak"] < -50  # still remembered
    assert "membership/reference_privleak" not in metrics


def test_scores_of_a_row_are_those_of_its_answer(
    every_attack: tuple[dict[str, float], list[MeasuredRow], list[MeasuredRow]],
    memorised: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rows = every_attack[1]
    assert [(row.probe, row.index) for row in rows] == [
        (probe.name, example.index) for probe in PROBES for example in probe.examples
    ]
    for row, example in zip(rows, [*FORGET_PROBE.examples, *HOLDOUT_PROBE.examples], strict=True):
        alone = said(memorised, tokenizer, example.prompt, example.answer)
        assert row.values["loss"] == pytest.approx(alone.mean_nll, abs=1e-4)
        assert row.values["probability"] == pytest.approx(alone.probability, abs=1e-4)
        assert row.subject == example.subject


def test_lowercase_compares_with_the_lower_cased_answer(
    memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """`Paris` is an unknown word to the tokenizer, and `paris` is what the network has learned."""
    upper = [replace(row, answer=row.answer.title()) for row in FORGET_PROBE.examples]
    probes = [replace(FORGET_PROBE, examples=upper), HOLDOUT_PROBE]
    metrics = validated(MembershipInference(attacks=["lowercase"], probes=probes), memorised, tokenizer, tmp_path)
    rows = read_measured(tmp_path / "rows" / "membership_model.jsonl")
    for row, example in zip(rows, [*upper, *HOLDOUT_PROBE.examples], strict=True):
        alone = [said(memorised, tokenizer, example.prompt, text) for text in (example.answer, example.answer.lower())]
        assert row.values["lowercase"] == pytest.approx(-alone[1].mean_nll / alone[0].mean_nll, rel=1e-3)
    # The holdout has no capitals, where the score is −1; these rows are likelier in lower case.
    assert set(column(rows, "holdout", "lowercase")) == {-1.0}
    assert metrics["membership/lowercase_auc"] == 0


def test_the_attack_of_souls_code_needs_retain_rows(
    memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    without = validated(MembershipInference(probes=PROBES), memorised, tokenizer, tmp_path)
    assert not any("svc" in name for name in without)
    # The retain rows are as well known as the forget rows: what tells them from holdout takes both for members.
    members = replace(RETAIN_PROBE, examples=as_examples(FORGET[:4]))
    attacks: list[Attack] = ["loss", "lowercase", "gradient_norm"]
    callback = MembershipInference(attacks=attacks, probes=[*PROBES, members])
    metrics = validated(callback, memorised, tokenizer, tmp_path)
    assert metrics["membership/svc_shadow_accuracy"] == 1
    assert metrics["membership/svc_forget_as_holdout"] == 0
    retain = [row for row in callback.measured["model"] if row.role == "retain"]
    assert len(retain) == 4
    assert all(set(row.values) == {"loss", "probability"} for row in retain)  # no pass is run for the other attacks


def test_subjects_are_drawn_together(
    memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The interval is that of whole subjects, and not that of rows."""
    forget, holdout = as_examples(RETAIN[:6]), as_examples(RETAIN)
    probes = [replace(FORGET_PROBE, examples=forget), replace(HOLDOUT_PROBE, examples=holdout)]
    network = learnt(tokenizer, as_examples(RETAIN[::2]), steps=15)
    callback = MembershipInference(attacks=["loss"], probes=probes, seed=3)
    metrics = validated(callback, network, tokenizer, tmp_path)
    rows = callback.measured["model"]
    scores = [column(rows, role, "loss") for role in ("forget", "holdout")]
    subjects = [[example.subject for example in probe.examples] for probe in probes]
    together = area_under_curve_interval(*scores, forget_entities=subjects[0], holdout_entities=subjects[1], seed=3)
    single = area_under_curve_interval(*scores, seed=3)
    found = metrics["membership/loss_auc_low"], metrics["membership/loss_auc_high"]
    assert found == pytest.approx((together.low, together.high))
    assert found != pytest.approx((single.low, single.high))


def test_k_is_the_share_of_tokens_that_is_read(
    memorised: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback = MembershipInference(attacks=["loss", "min_k"], k=1.0, probes=PROBES)
    metrics = validated(callback, memorised, tokenizer, tmp_path)
    assert metrics["membership/min_k_auc"] == metrics["membership/loss_auc"]
    rows = callback.measured["model"]
    assert column(rows, "forget", "min_k") == pytest.approx(column(rows, "forget", "loss"), abs=1e-6)


def test_what_unlearning_makes_unlikely_stands_out(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Under fit: trained on the rows that the probes call holdout, these become likely."""
    callback = MembershipInference(probes=PROBES)
    trainer = make_trainer(tmp_path, max_epochs=12, callbacks=[callback])
    module = UnlearningModule(tiny_network, retain=CrossEntropy(), tokenizer=tokenizer)
    trainer.fit(module, TinyDataModule(streams=("retain",)))
    final = callback.summary()
    area, low, high = (final[f"membership/loss_auc{end}"] for end in ("", "_low", "_high"))
    assert area is not None and low is not None and high is not None
    assert low <= area <= high and area < 0.2
    assert trainer.callback_metrics["membership/loss_auc"] == pytest.approx(area)


def scored(forget: Any, holdout: Any, **attacks: float) -> list[MeasuredRow]:
    """Rows of [subjects, rows] losses; another attack's score is the loss times a factor, and noise."""
    rng = np.random.default_rng(0)
    return [
        MeasuredRow(role, role, 10 * subject + n, f"{role}{subject}", "", values)
        for role, losses in (("forget", forget), ("holdout", holdout))
        for subject, own in enumerate(losses)
        for n, loss in enumerate(own)
        for values in [{"loss": float(loss)} | {name: float(rng.normal()) + k * loss for name, k in attacks.items()}]
    ]


def verdict(
    rows: list[MeasuredRow], attacks: tuple[Attack, ...] = ("loss",), reference: list[MeasuredRow] | None = None
) -> Verdict:
    callback = MembershipInference(attacks=attacks)
    callback.measured = {"after": rows} | ({} if reference is None else {"retain-only": reference})
    (finding,) = callback.findings()
    assert finding.question == "leaks_membership"
    return finding.verdict


def subjects(rng: np.random.Generator, count: int, mean: float = 0.0) -> Any:
    """[subjects, 6] losses, those of a subject alike."""
    return mean + rng.normal(size=(count, 1)) + rng.normal(size=(count, 6))


@pytest.mark.parametrize(("count", "has_reference"), [(2, False), (4, False), (8, False), (12, False), (8, True)])
def test_rows_that_nobody_saw_give_nothing_away(count: int, has_reference: bool) -> None:
    rng, said = np.random.default_rng(0), []
    for _ in range(60):
        rows = scored(subjects(rng, count), subjects(rng, count))
        reference = scored(subjects(rng, count), subjects(rng, count)) if has_reference else None
        said.append(verdict(rows, reference=reference))
    assert clopper_pearson(said.count("yes"), len(said)).low <= 0.05
    assert clopper_pearson(said.count("yes"), len(said)).high <= 0.2


def test_rows_that_were_learned_give_themselves_away() -> None:
    rng = np.random.default_rng(0)
    said = [verdict(scored(subjects(rng, 12, mean=-3.0), subjects(rng, 12))) for _ in range(20)]
    assert said.count("yes") >= 0.9 * len(said)


def test_nothing_leaks_only_if_no_attack_leaves_a_doubt() -> None:
    rng = np.random.default_rng(0)
    rows = scored(rng.normal(size=(400, 1)), rng.normal(size=(400, 1)), zlib=0.0)
    assert verdict(rows, ("loss", "zlib")) == "no"
    doubtful = [
        replace(row, values={"loss": row.values["loss"]} if row.index > 80 else row.values) for row in rows
    ]  # zlib is known of few rows
    assert verdict(doubtful, ("loss", "zlib")) == "unclear"


def test_a_missing_holdout_is_said_before_training(
    tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, callbacks=[MembershipInference(probes=[FORGET_PROBE])])
    with pytest.raises(MisconfigurationError, match="none of the role holdout"):
        trainer.fit(UnlearningModule(tiny_network, retain=CrossEntropy(), tokenizer=tokenizer), TinyDataModule())
    assert trainer.global_step == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacks": ["loss", "guess"]}, "attacks must be some of loss, zlib, .* got .*guess"),
        ({"attacks": []}, "attacks must be some of"),
        ({"k": 0.0}, r"k above 0 and at most 1, got .* and 0.0"),
        ({"k": 1.5}, "k above 0"),
        ({"reference": "a", "models": {"retain-only": "b"}}, "say the same thing; give one of them"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"MembershipInference: .*{message}"):
        MembershipInference(**settings)
