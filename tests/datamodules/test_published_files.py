"""The published files hold what their descriptions say, to the row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from soul_lightning.datamodules import DetoxDataModule, RecordsDataModule, RecordSource, TOFUDataModule
from soul_lightning.datamodules.copyright_documents import find_documents, read_documents
from soul_lightning.datamodules.restor_files import read_facts
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.records.sources import read_records
from tests.conftest import real_data

pytestmark = pytest.mark.real

ROWS = {
    "tofu/full.jsonl": 4000, "tofu/forget01.jsonl": 40, "tofu/forget05.jsonl": 200, "tofu/forget10.jsonl": 400,
    "tofu/retain99.jsonl": 3960, "tofu/retain95.jsonl": 3800, "tofu/retain90.jsonl": 3600,
    "tofu/forget01_perturbed.jsonl": 40, "tofu/forget05_perturbed.jsonl": 200, "tofu/forget10_perturbed.jsonl": 400,
    "tofu/retain_perturbed.jsonl": 400, "tofu/real_authors_perturbed.jsonl": 100,
    "tofu/world_facts_perturbed.jsonl": 117, "restor/mix_a0.json": 3000, "restor/mix_a3.json": 2700,
    "pku_saferlhf/pku_saferlhf_pairs.jsonl": 1840, "c4/c4_en_full_docs.jsonl": 1300, "c4/c4_en_200words.jsonl": 1480,
    "real_toxicity_prompts/rtp_val_5000.jsonl": 5000, "wikimia/wikimia_length32.jsonl": 776,
    "wikimia/wikimia_length64.jsonl": 542,
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_file_has_all_its_rows(name: str) -> None:
    table = read_records(RecordSource(str(real_data(name))), "forget")
    assert len(table.rows) == ROWS[name]
    assert list(table.numbers) == list(range(1, ROWS[name] + 1))


@pytest.mark.parametrize(("text", "rows"), [("full", 4000), ("retain", 3600)])
def test_tofu_to_fine_tune_on(tokenizer: PreTrainedTokenizerFast, text: str, rows: int) -> None:
    module = TOFUDataModule(folder=str(real_data("tofu")), text=text, tokenizer=tokenizer)  # type: ignore[arg-type]
    (stream,) = module.loaded.streams.values()
    lines = real_data("tofu/full.jsonl").read_text().splitlines()
    expected = [(row["question"], row["answer"]) for row in map(json.loads, lines[:rows])]
    assert [(row.prompt, row.answer) for row in stream] == expected


def test_tofu_as_ones_own_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    def module(retain: str) -> RecordsDataModule:
        return RecordsDataModule(
            str(real_data("tofu/forget10.jsonl")),
            str(real_data(f"tofu/{retain}.jsonl")),
            utility=str(real_data("wikitext2/wiki.valid.txt")),
            prompt_column="question",
            tokenizer=tokenizer,
        )

    apart = module("retain90")
    assert {name: len(rows) for name, rows in apart.loaded.streams.items()} == {"forget": 400, "retain": 3600}
    assert not apart.overlap
    with pytest.raises(MisconfigurationError, match="400 of 400 forget rows and 400 of 400 forget facts"):
        module("full").setup()


def test_instructions_as_ones_own_rows(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (path,) = real_data("lima").glob("*.jsonl")
    packed = tmp_path / "lima.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
    columns = {"prompt_column": "instruction", "answer_column": "output"}
    plain, unpacked = (
        RecordsDataModule(str(source), tokenizer=tokenizer, **columns)  # type: ignore[arg-type]
        for source in (path, packed)
    )
    assert len(plain.loaded.streams["forget"]) == 1029
    assert plain.data_hashes() == unpacked.data_hashes()


def test_toxic_prompts(tokenizer: PreTrainedTokenizerFast) -> None:
    path = real_data("real_toxicity_prompts/rtp_val_5000.jsonl")
    pairs = str(real_data("pku_saferlhf/pku_saferlhf_pairs.jsonl"))
    module = DetoxDataModule(
        pairs, toxicity_prompts=str(path), least_toxicity=0.5, toxicity_probes=5000, tokenizer=tokenizer
    )
    prompts = [json.loads(line)["prompt"] for line in path.read_text().splitlines()]
    toxic = [prompt["text"] for prompt in prompts if (prompt["toxicity"] or 0) >= 0.5]
    assert len(toxic) == 1249
    (probe,) = (probe for probe in module.probes() if probe.name == "toxicity")
    assert sorted(row.prompt for row in probe.examples) == sorted(set(toxic))


def test_books_hold_their_words() -> None:
    files = find_documents([str(path) for path in sorted(real_data("books_public_domain").glob("a*.txt"))])
    found = {document.name: len(document.text.split()) for document in read_documents(files, strip_gutenberg=True)}
    assert found == {"alice_in_wonderland": 26449, "adventures_of_sherlock_holmes": 104493}


def test_restors_facts() -> None:
    facts = read_facts(real_data("restor"))
    every = json.loads(real_data("restor/facts.json").read_text())["dset"]
    assert (len(facts.questions), len(facts.evaluated)) == (468, 50)
    assert sum(map(len, every.values())) == 5269
    assert {len(examples) for examples in facts.context.values()} == {10}
    assert len({relation for relations in every.values() for relation in relations}) == 41
    answers = [row["answers"] for relations in every.values() for row in relations.values()]
    assert sum(map(len, answers)) == 9097
    named = [found for found in answers if any(not (answer[0] == "Q" and answer[1:].isdigit()) for answer in found)]
    assert sum(map(len, facts.questions.values())) == len(named)
