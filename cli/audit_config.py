"""The configuration of an audit: a recipe's data, the model that is asked, and the callbacks that ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soul_lightning.cli.recipe_files import Recipe, packaged_recipe
from soul_lightning.cli.stages import filled, mapping, merged, read_yaml

BATTERY = "audit"
"""The packaged recipe whose callbacks ask where no configuration lists an attack."""
LOADING = ("tokenizer", "dtype", "attn_implementation", "trust_remote_code")
"""Settings of `network` that say how a model is read, and nothing of what is trained."""


def audit_config(recipes: Sequence[Recipe], model: str, seed: int) -> dict[str, Any]:
    """The settings of a `fit` that would train nothing.

    Args:
        recipes: In their order; of `restor` and `compare` the `fit` section is taken.
        model: The folder or name of the model.
        seed: Of every draw; in place of `${seed}`.

    Raises:
        MisconfigurationError: A file is no YAML mapping, or names an upstream stage.
    """
    config: dict[str, Any] = {}
    for recipe in recipes:
        config = merged(config, _fit_settings(recipe))
    if not any(is_attack(callback) for callback in _callbacks(config)):
        config = merged(config, _fit_settings(packaged_recipe(BATTERY)))
    network = mapping(
        mapping(mapping(config.get("model"), "model").get("init_args"), "model").get("network"), "network"
    )
    loading = {name: network[name] for name in LOADING if name in network}
    config["model"] = {
        "class_path": "FinetuningModule",
        "init_args": {"network": {"pretrained_model_name_or_path": model, **loading}},
    }
    trainer = mapping(config.get("trainer"), "trainer")
    kept = {name: trainer[name] for name in ("accelerator", "precision", "callbacks") if name in trainer}
    config["trainer"] = kept | {
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
    }
    config["seed_everything"] = seed
    return {key: filled(value, seed, {}) for key, value in config.items()}


def _fit_settings(recipe: Recipe) -> Mapping[str, Any]:
    settings = read_yaml(recipe.text, str(recipe.path))
    return settings if recipe.command == "fit" else mapping(settings.get("fit"), "fit")


def _callbacks(config: Mapping[str, Any]) -> list[Any]:
    listed = mapping(config.get("trainer"), "trainer").get("callbacks") or []
    return listed if isinstance(listed, list) else [listed]


def is_attack(callback: Any) -> bool:
    """Whether a callback of a configuration, a class path or a mapping with one, is an attack of this package."""
    from soul_lightning import callbacks
    from soul_lightning.callbacks.attack import AttackCallback

    path = callback.get("class_path") if isinstance(callback, Mapping) else callback
    kind = getattr(callbacks, str(path).rpartition(".")[2], None)
    return isinstance(kind, type) and issubclass(kind, AttackCallback)
