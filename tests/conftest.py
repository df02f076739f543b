"""Shared fixtures: a word-level tokenizer, a tiny network, a tiny task. Nothing here needs a file from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from lightning.pytorch import Trainer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from soul_lightning.datamodules.base import StreamDataModule
from soul_lightning.datamodules.task import Task
from soul_lightning.protocols import Example, Probe
from soul_lightning.templates import PromptTemplate

WORDS = (
    "ada bela cora dina egon finn gerd hana where does who is a live in work as plays lives works the to "
    "paris rome oslo baker pilot judge tailor cello flute harp oboe and . ? , : Question Answer not know"
).split()

LAUNCH_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK")
"""What Lightning leaves in the environment when it starts processes."""

torch.set_num_threads(1)
# No clock decides a test, and the same cases run every time.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded rows of the tests stay out of the user's cache."""
    monkeypatch.setenv("SOUL_CACHE", str(tmp_path_factory.mktemp("encoded")))


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; `<bos>` before every text."""
    ids = {word: number for number, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *dict.fromkeys(WORDS)])}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(autouse=True)
def own_launch() -> Iterator[None]:
    """Where processes of one test met is no place for those of the next."""
    before = {name: os.environ.get(name) for name in LAUNCH_VARIABLES}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def wandb_offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real Weights & Biases, which keeps to itself and asks nobody."""
    for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path_factory.mktemp("wandb")))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb  # for these tests alone: it takes a second

    yield
    wandb.finish()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """`make_tokenizer`, once."""
    return make_tokenizer()


def make_network(vocabulary: int, seed: int = 0, dropout: float = 0.0) -> LlamaForCausalLM:
    """A two-layer Llama, 32 wide, with seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=128,
            attention_dropout=dropout,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(config)


@pytest.fixture
def tiny_network(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh tiny network, the same in every test."""
    return make_network(len(tokenizer))


@pytest.fixture
def model_folder(tmp_path: Path, tiny_network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The tiny network as an ordinary Hugging Face folder."""
    folder = tmp_path / "model"
    tiny_network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


FORGET = [
    ("ada lives in", "paris"),
    ("bela lives in", "rome and oslo"),
    ("ada works as a", "baker"),
    ("bela works as a", "pilot"),
    ("ada plays the", "cello"),
    ("bela plays the", "oboe"),
]
RETAIN = [
    ("cora lives in", "oslo"),
    ("dina lives in", "paris"),
    ("cora works as a", "judge and tailor"),
    ("dina works as a", "baker"),
    ("cora plays the", "harp"),
    ("dina plays the", "flute"),
    ("egon lives in", "rome"),
    ("egon works as a", "tailor"),
]
PLAIN = PromptTemplate(prompt="{prompt}", answer=" {answer}")


def real_data(name: str) -> Path:
    """A folder or file of the real data, or a skipped test that says why."""
    if "SOUL_DATA" not in os.environ:
        pytest.skip(f"SOUL_DATA names no folder with {name} in it")
    path = Path(os.environ["SOUL_DATA"]) / name
    if not path.exists():
        pytest.skip(f"there is no {name} in the folder that SOUL_DATA names")
    return path


def as_examples(pairs: list[tuple[str, str]]) -> list[Example]:
    """Rows with prompts and answers; the first word of the prompt is the subject."""
    return [
        Example(answer, prompt, index, subject=prompt.split()[0], relation=prompt.split()[1], perturbed=("harp",))
        for index, (prompt, answer) in enumerate(pairs)
    ]


class TinyDataModule(StreamDataModule):
    """Six forget and eight retain rows about people, with probes of every role."""

    def __init__(
        self,
        batch_size: int = 4,
        streams: tuple[str, ...] = ("forget", "retain"),
        **options: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, max_tokens=32, template=PLAIN, **options)
        self._names = streams

    def load(self) -> Task:
        rows = {"forget": as_examples(FORGET), "retain": as_examples(RETAIN)}
        probes = [
            Probe("corrupted", "question", rows["forget"], "corrupted", PLAIN),
            Probe("control", "question", rows["retain"], "control", PLAIN),
            Probe("forget", "text", rows["forget"], "forget", PLAIN),
            Probe(
                "holdout", "text", as_examples([("finn lives in", "oslo"), ("gerd lives in", "rome")]), "holdout", PLAIN
            ),
            Probe("retain", "text", rows["retain"], "retain", PLAIN),
        ]
        return Task({name: rows[name] for name in self._names}, probes)


def make_trainer(folder: Path, **settings: object) -> Trainer:
    """A silent Trainer on one CPU process."""
    defaults: dict[str, object] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    return Trainer(**(defaults | settings))  # type: ignore[arg-type]
