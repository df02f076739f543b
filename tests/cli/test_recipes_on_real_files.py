"""Each laptop task on the real files, callbacks and all; only the network is tiny, of the class that SmolLM2 has.

With `SOUL_SMOLLM2=FOLDER` every laptop recipe of `fit` also takes two optimizer steps with SmolLM2-135M itself: half an
hour on one core.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from soul_lightning.cli.recipe_files import packaged_tasks
from tests.cli.conftest import Run
from tests.cli.recipe_worlds import deep_network
from tests.conftest import real_data

ASKED_LITTLE = {
    "tofu-smollm2": ("text_probes=4", "question_probes=2"),
    "copyright-smollm2": ("text_probes=6", "retain_rows=40"),
    "detox-smollm2": ("text_probes=6", "retain_rows=40"),
    "wmdp-smollm2": ("text_probes=6",),
    "records-smollm2": ("prompt_column=question", "limit_forget=16", "limit_retain=16"),
}
"""By task, settings of the data that keep its callbacks short."""
CHOSEN = (
    "tofu-smollm2/po-sophia",
    "copyright-smollm2/simnpo-sophia",
    "detox-smollm2/po-sophia",
    "wmdp-smollm2/rmu-adamw",
)
"""One recipe of each task, for the tiny network."""
LAPTOP = [recipe.name for task in ASKED_LITTLE for recipe in packaged_tasks()[task]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of many narrow blocks over single bytes, so that it can read any text."""
    folder = tmp_path_factory.mktemp("network")
    letters = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(folder)
    deep_network(len(letters), 2048, begin=0, end=0).save_pretrained(folder)
    return folder


def texts() -> str:
    return f"retain={real_data('c4/c4_en_200words.jsonl')}"


SOURCES: dict[str, Callable[[], list[str]]] = {
    "tofu-smollm2": lambda: [f"folder={real_data('tofu')}"],
    "copyright-smollm2": lambda: [f"documents={real_data('books_public_domain')}", texts()],
    "detox-smollm2": lambda: [f"pairs={real_data('pku_saferlhf/pku_saferlhf_pairs.jsonl')}", texts()],
    "wmdp-smollm2": lambda: [f"forget={real_data('books_public_domain/alice_in_wonderland.txt')}", texts()],
    "records-smollm2": lambda: [
        f"forget={real_data('tofu/forget01.jsonl')}",
        f"retain={real_data('tofu/retain90.jsonl')}",
    ],
}


@pytest.fixture(scope="module")
def smollm2() -> str:
    if "SOUL_SMOLLM2" not in os.environ:
        pytest.skip("SOUL_SMOLLM2 names no folder with SmolLM2-135M in it")
    return os.environ["SOUL_SMOLLM2"]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_a_laptop_recipe_on_real_files(run: Run, tmp_path: Path, network: Path, name: str) -> None:
    chat = ["--data.init_args.template.chat=false"] if name.startswith("detox") else []
    summary = two_steps(run, tmp_path, name, str(network), "--trainer.precision=32-true", *chat)
    assert any(key.startswith(("utility/", "membership/", "memorization/")) for key in summary)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", LAPTOP)
def test_every_laptop_recipe_takes_steps_on_smollm2(run: Run, tmp_path: Path, smollm2: str, name: str) -> None:
    summary = two_steps(run, tmp_path, name, smollm2, "--export=false")
    losses = [summary["train/loss"], summary.get("utility/retain_perplexity")]
    assert all(loss is not None and math.isfinite(loss) for loss in losses), losses


def two_steps(run: Run, folder: Path, name: str, network: str, *more: str) -> dict[str, Any]:
    """Two optimizer steps of a recipe with its callbacks; the summary of the run."""
    task = name.partition("/")[0]
    data = (*SOURCES[task](), *ASKED_LITTLE[task])
    outcome = run(
        "fit", "--config", name, *(f"--data.init_args.{setting}" for setting in data),
        f"--model.init_args.network.pretrained_model_name_or_path={network}", "--trainer.max_epochs=1",
        "--trainer.max_steps=-1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu", "--trainer.devices=1",
        "--output=run", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false", *more,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    summary: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["recipe"] == name and summary["optimizer_steps"] == 2
    return summary


@pytest.mark.real
@pytest.mark.slow
def test_a_laptop_recipe_of_restor_on_real_files(run: Run, tmp_path: Path, network: Path) -> None:
    stages = ("corrupted", "retain-only-sophia", "npo-sophia")
    outcome = run(
        "restor", "--config", "restor-smollm2/npo-sophia", "--output", "out", f"--stages.clean.pretrained={network}",
        f"--fit.data.init_args.folder={real_data('restor')}", f"--fit.data.init_args.{texts()}",
        "--fit.data.init_args.documents_per_entity=2", "--fit.data.init_args.control_probes=4",
        "--fit.data.init_args.in_context_examples=1", "--fit.data.init_args.relations=[P19]",
        "--fit.data.init_args.max_tokens=64",
        *(f"--stages.{stage}.trainer.limit_train_batches=1" for stage in stages),
        *(f"--stages.{stage}.trainer.precision=32-true" for stage in stages), "--fit.trainer.accelerator=cpu",
        "--fit.trainer.precision=32-true", "--fit.trainer.enable_progress_bar=false", "--fit.trainer.logger=false",
        "--restoration.max_new_tokens=2",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {"retain-only-sophia/accuracy_corrupted", "npo-sophia/accuracy_corrupted"} <= set(summary)
