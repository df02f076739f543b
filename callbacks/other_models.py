"""The models that a callback puts beside the one that trains."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from lightning.pytorch import Trainer

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.scoring.adapter import CausalLMAdapter
from soul_lightning.scoring.evaluation import isolated_evaluation

Answer = TypeVar("Answer")
_MODEL_NAME = re.compile(r"[\w.-]+")
ROWS_FILES = (".jsonl", ".parquet")
"""Endings of sources that are no models but rows that a callback wrote in another run."""


def check_model_names(caller: str, models: Mapping[str, str], taken: Sequence[str]) -> None:
    """Refuse names that cannot head a column, a metric and a file.

    Args:
        caller: The callback, for the error.
        models: Sources by name.
        taken: Names that mean something else.

    Raises:
        MisconfigurationError: A name holds other characters, or is taken.
    """
    for name in models:
        if not _MODEL_NAME.fullmatch(name) or name in taken:
            raise MisconfigurationError(
                f"{caller}: models cannot hold the name {name!r}; use letters, digits, '.', '_' and '-', and not "
                f"{' or '.join(map(repr, taken))}, which the callback itself gives"
            )


def ask_other_model(
    trainer: Trainer, beside: CausalLMAdapter, source: str, ask: Callable[[CausalLMAdapter], Answer]
) -> Answer:
    """Load a model from a Hugging Face folder, ask it, and let it go.

    It runs in the precision and on the processes of the run, whose random generators stay as they are.

    Args:
        trainer: The run.
        beside: The model of the run.
        source: A folder, a hub name, or `packaged:NAME`.
        ask: What is wanted of the model; must not keep it.
    """
    settings = PretrainedNetwork(source)
    with isolated_evaluation(beside.network, trainer):  # loading draws random numbers too
        with torch.inference_mode(False):  # under Trainer.validate; a gradient norm could not be had of such weights
            network = settings.load_network().to(beside.device).eval()
        answer = ask(CausalLMAdapter(network, settings.load_tokenizer(), beside.ranks))
    del network
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return answer
