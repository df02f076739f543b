"""A tiny run that everything a checkpoint must hold has a part in: dropout, a cached reference, seven callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedTokenizerFast

from tests.conftest import make_network

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdamW": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}}},
    "Sophia-GNB": {
        "optimizer": {"class_path": "Sophia", "init_args": {"lr": 1.0e-3, "rho": 0.4}},
        "curvature": {"class_path": "GaussNewtonBartlett", "init_args": {"interval_steps": 5}},
    },
}


def write_recipe(folder: Path, optimizer: str, tokenizer: PreTrainedTokenizerFast, **trainer: Any) -> Path:
    """The recipe's file and the models that it names.

    Args:
        folder: Where they go.
        optimizer: A key of `OPTIMIZERS`.
        tokenizer: The models'.
        **trainer: Settings of the Trainer.
    """
    models = {"model": make_network(len(tokenizer), dropout=0.2), "reference": make_network(len(tokenizer), seed=1)}
    for name, network in models.items():
        network.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    scoring = {"every_n_epochs": 2, "limit": 4}
    callbacks = [
        {"class_path": "Restoration", "init_args": {"models": {"clean": str(folder / "reference")}, "reports": False}},
        {"class_path": "Memorization", "init_args": {"every_n_steps": 4, "max_new_tokens": 4}},
        {"class_path": "MembershipInference", "init_args": {"reference": str(folder / "reference"), **scoring}},
        {"class_path": "Utility", "init_args": {"max_new_tokens": 4, **scoring}},
        {"class_path": "ForgetQuality", "init_args": {"reference": str(folder / "reference"), **scoring}},
        {"class_path": "LogitAnalysis", "init_args": scoring},
        {"class_path": "HuggingFaceExport", "init_args": {"folder": "exported", "every_n_epochs": 2}},
    ]
    module = {
        "network": {"pretrained_model_name_or_path": str(folder / "model"), "attn_implementation": "eager"},
        "forget": {"class_path": "NPO", "init_args": {"beta": 0.5, "level": "token"}},
        "retain": "CrossEntropy",
        "retain_weight": {"class_path": "LinearWeight", "init_args": {"start": 1.0, "end": 2.0}},
        "lr_scheduler": {"decay": "cosine", "warmup_steps": 0.1},
        "micro_batches": 2,
        **OPTIMIZERS[optimizer],
    }
    config = {
        "model": {"class_path": "UnlearningModule", "init_args": module},
        "data": {"class_path": "tests.conftest.TinyDataModule", "init_args": {"batch_size": 1}},
        "checkpoint": {"every_n_steps": 4},
        "trainer": {
            "max_epochs": 4,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "callbacks": callbacks,
            **trainer,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path
