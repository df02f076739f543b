"""HiddenStateProbe: what it measures and says, in runs of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.attacks.copies import fingerprint
from soul_lightning.attacks.probing import prompt_states, read_answers
from soul_lightning.callbacks import HiddenStateProbe
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.modules.unlearning import UnlearningModule
from soul_lightning.objectives.cross_entropy import CrossEntropy
from soul_lightning.protocols import Example, Probe
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.measured_rows import MeasuredRow
from soul_lightning.scoring.scored_model import ScoredModel
from tests.attacks.known import known_world
from tests.callbacks.tiny_models import validated
from tests.conftest import PLAIN, TinyDataModule, make_network, make_trainer

ANSWERS = {
    "lives in": ("paris", "rome", "oslo"),
    "works as a": ("baker", "pilot", "judge", "tailor"),
    "plays the": ("cello", "oboe", "flute", "harp"),
}


def asked(people: str, role: str, relations: int = 3) -> Probe:
    pairs = [(who, relation) for who in people.split() for relation in list(ANSWERS)[:relations]]
    rows = [
        Example(ANSWERS[relation][(7 * n) % len(ANSWERS[relation])], f"{who} {relation}", n, subject=who,
                relation=relation)
        for n, (who, relation) in enumerate(pairs)
    ]  # fmt: skip
    return Probe(role, "question", rows, role, PLAIN)


FORGET = asked("ada bela cora", "forget")
KEPT = [asked("dina egon finn gerd hana", "retain"), asked("dina egon finn", "control")]
PROBES = [FORGET, *KEPT]


@pytest.fixture
def network(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return make_network(len(tokenizer))


def test_metrics_are_means_of_what_is_read_of_each_row(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    callback, before = HiddenStateProbe(probes=list(PROBES)), fingerprint(network)
    metrics = validated(callback, network, tokenizer, tmp_path)
    model = ScoredModel(CausalLMAdapter(network, tokenizer))
    learned = np.concatenate([prompt_states(model, probe) for probe in KEPT])
    answers = [row.answer for probe in KEPT for row in probe.examples]
    reading = read_answers(learned, answers, prompt_states(model, FORGET), FORGET.examples)
    means = reading.preferences.mean(axis=0)
    for layer, mean in enumerate(means):
        assert metrics[f"probe/layer_{layer}_auc"] == pytest.approx(mean, abs=1e-6)
        low, high = metrics[f"probe/layer_{layer}_auc_low"], metrics[f"probe/layer_{layer}_auc_high"]
        assert low <= mean + 1e-6 and mean - 1e-6 <= high
    assert metrics["probe/best_layer"] == means.argmax()
    assert metrics["probe/best_auc"] == pytest.approx(means.max(), abs=1e-6)
    assert metrics["probe/best_auc_low"] == pytest.approx(means.max() - (reading.chance - 0.5), abs=1e-6)
    rows = callback.measured["model"]
    assert [row.values["layer_2"] for row in rows] == pytest.approx(reading.preferences[:, 2].tolist())
    assert fingerprint(network) == before
    (curve,) = callback.curves()
    assert curve.series["model"].y == pytest.approx(means.tolist()) and curve.series["guessing"].x == (0, 2)
    (finding,) = callback.findings()
    assert (finding.question, finding.examples, finding.subjects) == ("remembers", 9, 3)
    assert f"{'behind block ' + str(means.argmax()) if means.argmax() else 'in the embeddings'} of 2" in finding.measure


def test_fit_and_test_measure_alike_and_draw_the_curve(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="board")
    callback = HiddenStateProbe(probes=list(PROBES))
    module = UnlearningModule(make_network(len(tokenizer)), retain=CrossEntropy(), tokenizer=tokenizer)
    make_trainer(tmp_path, callbacks=[callback], logger=logger).fit(module, TinyDataModule(streams=("retain",)))
    fitted = callback.summary()
    other = HiddenStateProbe(probes=list(PROBES))
    (tested,) = make_trainer(tmp_path, callbacks=[other]).test(module, TinyDataModule(), verbose=False)
    assert {name: pytest.approx(value, abs=1e-5) for name, value in tested.items()} == fitted
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("probe/layers")] == [2]


def test_a_reference_is_compared_row_by_row(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    validated(HiddenStateProbe(probes=list(PROBES)), make_network(len(tokenizer), seed=3), tokenizer, tmp_path / "a")
    rows = str(tmp_path / "a" / "rows" / "probe_model.jsonl")
    callback = HiddenStateProbe(probes=list(PROBES), reference=rows)
    metrics = validated(callback, network, tokenizer, tmp_path / "b")
    rows_read = callback.measured["model"]
    above_reference = callback._best(rows_read, callback.measured["retain-only"])[1]
    assert above_reference.value == pytest.approx(metrics["probe/above_reference"])
    (finding,) = callback.findings()  # of the comparison that shows least
    values = {
        "above a model that never saw it": above_reference.value,
        "above the half": metrics["probe/best_auc"] - 0.5,
    }
    assert [value for what, value in values.items() if what in finding.measure] == pytest.approx([finding.value.value])
    same = HiddenStateProbe(probes=list(PROBES), reference=rows)
    validated(same, make_network(len(tokenizer), seed=3), tokenizer, tmp_path / "c")
    (finding,) = same.findings()
    assert finding.verdict != "yes"


def test_a_reference_that_reads_less_than_guessing_proves_nothing() -> None:
    def rows(share: float) -> list[MeasuredRow]:
        values = {"layer_0": share, "layer_1": share, "chance": 0.6}
        return [MeasuredRow("forget", "forget", n, f"p{n}", "", dict(values)) for n in range(30)]

    callback = HiddenStateProbe()
    said = []
    for share in (0.5, 0.9):
        callback.measured = {"after": rows(share), "retain-only": rows(0.2)}
        (finding,) = callback.findings()
        said.append(finding.verdict)
    assert said[0] != "yes" and said[1] == "yes"


def test_an_attacker_who_knows_some_subjects_is_tried_on_the_others(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    people = asked("ada bela cora dina egon finn gerd hana", "forget")
    callback = HiddenStateProbe(probes=[people, KEPT[1]], known_share=0.5)
    validated(callback, network, tokenizer, tmp_path)
    read = {row.subject for row in callback.measured["model"] if "layer_0" in row.values}
    assert len(read) == 4 and len(callback.measured["model"]) == 24


def test_answers_without_a_learned_word_are_left_out_and_counted(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    first, *rest = FORGET.examples
    forget = replace(FORGET, examples=[replace(first, answer="lima"), *rest])
    callback = HiddenStateProbe(probes=[forget, *KEPT])
    validated(callback, network, tokenizer, tmp_path)
    assert [row.index for row in callback.measured["model"] if "layer_0" not in row.values] == [0]
    (note,) = callback.notes()
    assert "1 of 9 questions are left out" in note and "24 answers" in note
    assert callback.findings()[0].examples == 8


def test_without_relations_only_a_reference_says_anything(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    bare = replace(FORGET, examples=[replace(row, relation=None) for row in FORGET.examples])
    callback = HiddenStateProbe(probes=[bare, *KEPT])
    validated(callback, network, tokenizer, tmp_path)
    assert callback.findings() == []
    assert "questions name no relation" in callback.notes()[0]


def test_a_model_that_has_diverged_is_measured_without_a_number(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    network.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    callback = HiddenStateProbe(probes=list(PROBES))
    with pytest.warns(UserWarning, match="no finite numbers: the model has diverged"):
        assert validated(callback, network, tokenizer, tmp_path) == {}
    assert callback.findings() == []


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ([FORGET, asked("dina egon finn gerd hana", "retain")], "at least 20 questions .* and there are 15"),
        ([Probe("forget", "text", FORGET.examples, "forget", PLAIN), *KEPT], "there are only texts"),
        ([replace(FORGET, examples=[replace(r, answer=f"x{r.index}") for r in FORGET.examples]), *KEPT],
         "can read none of 9 questions"),
    ],
)  # fmt: skip
def test_what_a_probe_lacks_is_said_before_anything_runs(
    probes: list[Any], message: str, network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        validated(HiddenStateProbe(probes=probes), network, tokenizer, tmp_path)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(MisconfigurationError, match=r"known_share must be at least 0 and below 1 .* got 1\.0 and 1999"):
        HiddenStateProbe(known_share=1.0)
    with pytest.raises(MisconfigurationError, match=r"20 draws cannot hold a confidence of 0\.95"):
        HiddenStateProbe(draws=20)


@pytest.mark.slow
def test_what_only_the_last_block_hides_stands_inside(tmp_path: Path) -> None:
    world = known_world()
    found = {}
    for name, group in (("hidden", world.trained[0]), ("never", world.never[0])):
        callback = HiddenStateProbe(probes=[group, world.kept])
        validated(callback, world.suppressed, world.tokenizer, tmp_path / name)
        (found[name],) = callback.findings()
    assert found["hidden"].verdict == "yes" and "behind block 3 of 4" in found["hidden"].measure
    assert found["never"].verdict != "yes"
