"""Tiny stand-ins for what recipes fetch: a network with every block that one names, and files of each kind."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.conftest import FORGET, RETAIN, make_tokenizer
from tests.datamodules.restor_world import write_flat
from tests.datamodules.text_world import write_books, write_pairs, write_retain
from tests.datamodules.text_world import write_rows as write_columns
from tests.datamodules.tofu_world import write_folder

BLOCKS = 11
"""Of the network: RMU's recipes steer behind block 10 at most."""


def deep_network(vocabulary: int, positions: int, begin: int, end: int, pad: int | None = None) -> LlamaForCausalLM:
    """A Llama of many narrow blocks with seeded weights, and the tokens that begin, end and fill a text."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=BLOCKS,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            bos_token_id=begin,
            eos_token_id=end,
            pad_token_id=pad,
        )
        return LlamaForCausalLM(config)


def write_deep_model(folder: Path) -> Path:
    """Such a network over the words of the tests as a Hugging Face folder."""
    tokenizer = make_tokenizer()
    deep_network(len(tokenizer), 512, begin=1, end=2, pad=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_stand_ins(folder: Path) -> dict[str, dict[str, object]]:
    """Small files of every kind; by DataModule the settings that read them in place of the recipes' own."""
    forget = write_columns(folder / "forget.jsonl", [{"prompt": prompt, "answer": answer} for prompt, answer in FORGET])
    kept = write_columns(folder / "kept.jsonl", [{"prompt": prompt, "answer": answer} for prompt, answer in RETAIN])
    texts = write_columns(folder / "texts.jsonl", [{"text": f"ada works in rome as a baker {n} ."} for n in range(12)])
    lima = write_columns(folder / "lima.jsonl", [{"instruction": f"who {n}", "output": "ada"} for n in range(20)])
    retain = {"retain": write_retain(folder), "retain_rows": 12, "text_probes": 6}
    return {
        "TOFUDataModule": {
            "folder": str(write_folder(folder / "tofu")), "retain_authors": 4, "withheld_authors": 2, "text_probes": 6,
            "question_probes": 3,
        },
        "CopyrightDataModule": {
            "documents": write_books(folder / "books"), "passages": 12, "holdout_passages": 6, "prompt_tokens": 5,
            "continuation_tokens": 6,
        } | retain,
        "DetoxDataModule": {
            "pairs": write_pairs(folder / "pairs.jsonl"), "samples": 12, "holdout_samples": 4,
            "template": {"prompt": "{prompt}", "answer": " {answer}", "chat": False},
        } | retain,
        "WMDPDataModule": {
            "forget": texts, "retain": retain["retain"], "limit_retain": 12, "min_characters": 5, "questions": None,
            "utility_questions": None,
        },
        "RecordsDataModule": {"forget": forget, "retain": kept},
        "RestorDataModule": {"folder": str(write_flat(folder / "restor")), "control_probes": 4} | retain,
        "RepairDataModule": {"instructions": lima},
        "TinyWorldDataModule": {},
        "BehaviorDataModule": {},
    }  # fmt: skip
