"""The configuration of an audit: a recipe's data, the model that is asked, and the callbacks that ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.recipe_files import Recipe, packaged_recipe
from soul_lightning.cli.stages import filled, mapping, merged, read_yaml
from soul_lightning.exceptions import MisconfigurationError

SECTION = "audit"
"""The key of a recipe under which the settings of the audit itself stand."""
BATTERY = "audit"
"""The packaged recipe whose callbacks ask where no configuration lists an attack."""
LOADING = ("tokenizer", "dtype", "attn_implementation", "trust_remote_code")
"""Settings of `network` that say how a model is read, and nothing of what is trained."""


@dataclass(frozen=True)
class AuditSettings:
    """What a recipe says under `audit`; options of the command win.

    Attributes:
        model: The model that is asked: a Hugging Face folder or a hub name.
        reference: A model that never saw what is to be forgotten, or the folder of its audit.
        original: The model before unlearning.
        minutes: The budget; none for no limit.
    """

    model: str | None = None
    reference: str | None = None
    original: str | None = None
    minutes: float | None = None


def audit_config(recipes: Sequence[Recipe]) -> tuple[AuditSettings, dict[str, Any]]:
    """The settings of an audit, and those of a `fit` that would train nothing, without a model and a seed.

    Args:
        recipes: In their order; of `restor` and `compare` the `fit` section is taken.

    Raises:
        MisconfigurationError: A file is no YAML mapping, a key under `audit` is unknown, or `minutes` is no number.
    """
    config: dict[str, Any] = {}
    for recipe in recipes:
        config = merged(config, _fit_settings(recipe))
    if not any(is_attack(callback) for callback in _callbacks(config)):
        battery = _fit_settings(packaged_recipe(BATTERY))
        config = merged(merged(battery, config), {"trainer": {"callbacks": _callbacks(battery)}})
    section = mapping(config.pop(SECTION, None), SECTION)
    known = [each.name for each in fields(AuditSettings)]
    for key in section:
        if key not in known:
            raise MisconfigurationError(
                f"{SECTION} has no key {key!r}{nearest(key, known)}; its keys are {', '.join(known)}"
            )
    minutes = section.get("minutes")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float) or minutes <= 0):
        raise MisconfigurationError(f"{SECTION}.minutes must be a number above 0, or null, got {minutes!r}")
    return AuditSettings(**section), config


def asked_config(config: Mapping[str, Any], model: str, seed: int) -> dict[str, Any]:
    """The configuration with the model that is asked, and nothing that trains or logs.

    Args:
        config: What `audit_config` gave.
        model: The folder or name of the model.
        seed: Of the global generators; in place of `${seed}`. Callbacks draw by seeds of their own.
    """
    network: Any = config
    for key in ("model", "init_args", "network"):
        network = mapping(network.get(key), key)
    loading = {name: network[name] for name in LOADING if name in network}
    trainer = mapping(config.get("trainer"), "trainer")
    kept = {name: trainer[name] for name in ("accelerator", "precision", "callbacks") if name in trainer}
    nothing_else = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False)
    own = {
        "seed_everything": seed,
        "model": {
            "class_path": "FinetuningModule",
            "init_args": {"network": {"pretrained_model_name_or_path": model, **loading}},
        },
        "trainer": kept | {"devices": 1, **nothing_else},
    }
    return {key: filled(value, seed, {}) for key, value in (dict(config) | own).items()}


def _fit_settings(recipe: Recipe) -> Mapping[str, Any]:
    settings = read_yaml(recipe.text, str(recipe.path))
    return settings if recipe.command in ("fit", SECTION) else mapping(settings.get("fit"), "fit")


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
