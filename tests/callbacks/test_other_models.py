"""Models beside the one that trains, as folders and as rows files of other runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.callbacks import (
    ForgetQuality,
    MembershipInference,
    Memorization,
    ScoringCallback,
    Utility,
)
from soul_lightning.exceptions import MisconfigurationError
from tests.callbacks.tiny_models import (
    FORGET_PROBE,
    OTHER_TEMPLATE,
    PROBES,
    measured_rows,
    memorization,
    unlearning,
    validated,
)
from tests.conftest import FORGET, TinyDataModule, as_examples, make_trainer

Kind = Callable[..., ScoringCallback]


@pytest.mark.parametrize("rows", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "kind",
    [
        lambda **settings: ForgetQuality(max_new_tokens=4, **settings),
        lambda **settings: MembershipInference(attacks=["loss", "lowercase", "gradient_norm"], **settings),
        lambda **settings: Memorization(max_new_tokens=4, **settings),
        lambda **settings: Utility(max_new_tokens=4, **settings),
    ],
    ids=["ForgetQuality", "MembershipInference", "Memorization", "Utility"],
)
def test_a_folder_and_the_rows_that_were_measured_on_it_give_the_same_metrics(
    retain_only: LlamaForCausalLM,
    reference: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    kind: Kind,
    rows: Literal["jsonl", "parquet"],
) -> None:
    earlier = kind(probes=list(PROBES), rows=rows)
    validated(earlier, retain_only, tokenizer, tmp_path / "earlier")
    file = tmp_path / "earlier" / "rows" / f"{earlier.name}_model.{rows}"
    summaries = []
    for source in (reference, str(file)):
        callback = kind(probes=list(PROBES), models={"retain-only": source})
        trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[callback])
        trainer.fit(unlearning(tokenizer), TinyDataModule())
        summaries.append(callback.summary())
    assert summaries[0] == summaries[1]
    assert any(name.startswith(f"{earlier.name}/retain-only/") for name in summaries[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"probes": [replace(FORGET_PROBE, examples=as_examples(FORGET[:-1]))]}, "the hash"),
        ({"probes": [replace(FORGET_PROBE, examples=as_examples(FORGET[::-1]))]}, "the hash"),
        ({"max_tokens": 7}, "the hash"),
        ({"probes": [replace(FORGET_PROBE, template=OTHER_TEMPLATE)]}, "the hash"),
        ({"probes": [replace(FORGET_PROBE, name="texts")]}, "no row"),
    ],
    ids=["other rows", "another order", "another max_tokens", "another template", "another probe"],
)
@pytest.mark.parametrize("rows", ["jsonl", "parquet"])
def test_rows_of_something_else_are_refused_before_training(
    retain_only: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    settings: dict[str, Any],
    said: str,
    rows: str,
) -> None:
    file = measured_rows(retain_only, tokenizer, tmp_path / "earlier", rows=rows, **settings)
    callback = memorization(models={"retain-only": file})
    module = unlearning(tokenizer)
    before = [parameter.clone() for parameter in module.parameters()]
    trainer = make_trainer(tmp_path / "run", callbacks=[callback])
    with pytest.raises(MisconfigurationError) as raised:
        trainer.fit(module, TinyDataModule())
    sentence = str(raised.value)
    assert f"Memorization: the rows file {file!r} of the retain-only model has {said}" in sentence
    assert "for the probe 'forget'" in sentence and "measure that model again" in sentence
    assert "\n" not in sentence and ". " not in sentence
    assert trainer.global_step == 0
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))
    assert not (tmp_path / "run" / "rows").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file .*earlier.jsonl"),
        ("", "has no rows; measure that model again"),
        ('{"probe": "forget"}\n', "line 1 of the rows file .*earlier.jsonl.* holds no measured row"),
    ],
)
def test_files_without_rows_are_refused_before_training(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "earlier.jsonl"
    if content is not None:
        file.write_text(content)
    trainer = make_trainer(tmp_path, callbacks=[memorization(models={"retain-only": str(file)})])
    with pytest.raises(MisconfigurationError, match=message):
        trainer.fit(unlearning(tokenizer), TinyDataModule())
    assert trainer.global_step == 0


def test_a_folder_without_a_model_is_refused_before_training(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, callbacks=[memorization(models={"clean": str(tmp_path / "nowhere")})])
    with pytest.raises(MisconfigurationError, match="nowhere"):
        trainer.fit(unlearning(tokenizer), TinyDataModule())
    assert trainer.global_step == 0


@pytest.mark.parametrize("name", ["before", "after", "model", "a model", "a/b", ""])
def test_names_that_are_taken_or_no_names_are_refused(name: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"Memorization: models cannot hold the name {name!r}"):
        memorization(models={name: "folder"})
