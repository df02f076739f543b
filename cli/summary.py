"""The numbers of a run for its `summary.json`."""

from __future__ import annotations

import hashlib
from typing import Any

import yaml
from lightning.pytorch import Trainer

from soul_lightning import versions as releases
from soul_lightning.callbacks.sources import last_metrics

_NOT_THE_EXPERIMENT = ("ckpt_path", "checkpoint", "seed_everything")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return releases.versions("torch", "lightning", "transformers")


def config_hash(text: str) -> str:
    """A hash of what a configuration says, 16 hexadecimal digits; its seed, checkpoints and run folder do not enter.

    Args:
        text: The resolved configuration as YAML.
    """
    config = yaml.safe_load(text)
    for key in _NOT_THE_EXPERIMENT:
        config.pop(key, None)
    config.get("trainer", {}).pop("default_root_dir", None)
    return hashlib.sha256(yaml.safe_dump(config, sort_keys=True).encode()).hexdigest()[:16]


def summarize(trainer: Trainer) -> dict[str, Any]:
    """Everything measured: what was logged last, what callbacks report, what the data was.

    Args:
        trainer: After `fit`.
    """
    summary: dict[str, Any] = {**last_metrics(trainer), "optimizer_steps": trainer.global_step, "versions": versions()}
    data = getattr(trainer, "datamodule", None)
    overlap = getattr(data, "overlap", None)
    if overlap is not None:
        summary |= {f"overlap/{name}": getattr(overlap, name) for name in ("rows", "of_rows", "facts", "of_facts")}
    if data is not None and hasattr(data, "data_hashes"):
        summary["data_hashes"] = data.data_hashes()
    return summary
