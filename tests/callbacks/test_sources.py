"""Where probes come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.records.probe_files import ProbeFile
from tests.callbacks.tiny_models import (
    FORGET_PROBE,
    OTHER_TEMPLATE,
    memorization,
    validated,
)
from tests.conftest import FORGET, PLAIN, as_examples


def write_rows(path: Path, pairs: list[tuple[str, str]]) -> str:
    rows = as_examples(pairs)
    records = [
        {"prompt": row.prompt, "answer": row.answer, "subject": row.subject, "perturbed": list(row.perturbed)}
        for row in rows
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_probes_come_from_files_from_lists_and_from_the_datamodule(
    retain_only: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "forget.jsonl", FORGET)
    sources: dict[str, Any] = {
        "files by role": {"forget": file},
        "ProbeFile": [ProbeFile(file, "forget")],
        "ProbeFile that says all": [ProbeFile(file, "forget", "forget", "text", PLAIN)],
        "Probe": [FORGET_PROBE],
        "DataModule": None,
    }
    found = {
        name: validated(memorization(probes=probes), retain_only, tokenizer, tmp_path)
        for name, probes in sources.items()
    }
    assert len(found["Probe"]) == 3
    for name, metrics in found.items():
        assert metrics == found["Probe"], name


def test_a_file_is_written_as_its_own_template_says(
    retain_only: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    file = write_rows(tmp_path / "forget.jsonl", FORGET)
    found = [
        validated(memorization(probes=probes), retain_only, tokenizer, tmp_path)
        for probes in (
            [ProbeFile(file, "forget", template=OTHER_TEMPLATE)],
            [replace(FORGET_PROBE, template=OTHER_TEMPLATE)],
            [ProbeFile(file, "forget")],
        )
    ]
    assert found[0] == found[1] != found[2]
