"""The README of an exported model: what was done to it, with what, and how it came out; no row of the data, no path."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from soul_lightning.networks.loading import PACKAGED_PREFIX
from soul_lightning.records.readers import READERS
from soul_lightning.versions import versions

CARD_NAME = "README.md"
_PACKAGES = ("torch", "lightning", "transformers", "peft")
_LOCAL, _TEXT = "(local path)", "(text)"
_OF_THE_MACHINE = ("ckpt_path", "default_root_dir", "logger", "cache_dir")
"""Settings that say where and how something is written, and nothing about the model."""
_FILE_SUFFIXES = (*READERS, ".gz", ".ckpt", ".yaml", ".yml", ".safetensors", ".bin", ".pt")
_CLOCK = re.compile(r"second|time|/step$")
"""Metrics of the machine: with them, two runs of a recipe would have two cards."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def model_card(
    configuration: Mapping[str, Any] | None = None,
    data_hashes: Mapping[str, str] | None = None,
    metrics: Mapping[str, Any] | None = None,
    remarks: str = "",
) -> str:
    """The text of the card, the same whenever the same recipe is run.

    Args:
        configuration: The resolved configuration of the run, see `shareable`.
        data_hashes: A hash of each stream and probe set by its name.
        metrics: Names and numbers; names without `/`, other values and times are left out.
        remarks: What else a reader must know.
    """
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    base = hub_name(configuration)
    front |= {"base_model": base} if base else {}
    front |= {"tags": ["machine-unlearning", "soul-lightning"]}
    parts = [
        f"---\n{_yaml(front)}---\n\n# A model trained with soul-lightning",
        "Weights, configuration and tokenizer; no optimizer state, and no row of the data. Where the recipe below "
        f"names local files or holds texts, it says `{_LOCAL}` and `{_TEXT}`.",
    ]
    if remarks:
        parts.append(remarks)
    if configuration is not None:
        parts.append(f"## Recipe\n\n{_fenced(_yaml(shareable(configuration)))}")
    if data_hashes:
        what = "SHA-256 of the rows as they were read, order included (first 16 digits)."
        parts.append(f"## Data\n\n{what}\n\n{_table(('rows', 'hash'), data_hashes)}")
    numbers = {name: _number(value) for name, value in (metrics or {}).items() if _is_metric(name, value)}
    if numbers:
        parts.append(f"## Metrics\n\n{_table(('metric', 'value'), numbers)}")
    parts.append(f"## Versions\n\n{_table(('package', 'version'), versions(*_PACKAGES))}")
    return "\n\n".join(parts) + "\n"


def read_configuration(path: Path) -> Mapping[str, Any] | None:
    """The configuration that a run has left in a file; none where there is no such file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, Mapping) else None


def hub_name(configuration: Mapping[str, Any] | None) -> str | None:
    """The model that a run started from, where it is one of the hub; none for a local folder or a packaged model."""
    place: Any = configuration
    for key in ("model", "init_args", "network", "pretrained_model_name_or_path"):
        place = place.get(key) if isinstance(place, Mapping) else None
    is_name = isinstance(place, str) and _HUB_NAME.fullmatch(place) and not _is_path(place)
    return str(place) if is_name else None


def shareable(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what must stay on the machine.

    Left out are settings that are null or say where results go; replaced are strings that may name a local file,
    strings with spaces, which may be texts, and under `data` every list of strings, which may name who is forgotten.
    Prompt templates stay.

    Args:
        configuration: Plain values.
    """
    return {
        key: _shared(value, in_data=key == "data")
        for key, value in configuration.items()
        if key not in _OF_THE_MACHINE and value is not None
    }


def _shared(value: Any, *, in_data: bool) -> Any:
    if isinstance(value, Mapping):
        own = {key: inner for key, inner in value.items() if inner is not None and key not in _OF_THE_MACHINE}
        return {key: inner if key == "template" else _shared(inner, in_data=in_data) for key, inner in own.items()}
    if isinstance(value, list | tuple):
        return [_TEXT if in_data and isinstance(each, str) else _shared(each, in_data=in_data) for each in value]
    if isinstance(value, str) and _is_path(value):
        return _LOCAL
    return _TEXT if isinstance(value, str) and re.search(r"\s", value) else value


def _is_path(text: str) -> bool:
    """Whether a string may name a place on a machine or in a network."""
    if text.startswith(PACKAGED_PREFIX):
        return False
    if text.startswith(("/", "~", ".")) or "\\" in text or "://" in text or text.count("/") > 1:
        return True
    try:
        return text.lower().endswith(_FILE_SUFFIXES) or (text != "" and Path(text).exists())
    except (OSError, ValueError):  # too long, or with a character that no path has
        return False


def _is_metric(name: str, value: object) -> bool:
    return "/" in name and type(value) in (int, float) and not _CLOCK.search(name)


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "not finite"


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    cells = [[" ".join(cell.replace("|", "/").split()) for cell in line] for line in (head, *rows.items())]
    lines = [f"| {left} | {right} |" for left, right in cells]
    return "\n".join([lines[0], "| --- | --- |", *lines[1:]])


def _fenced(text: str) -> str:
    fence = "`" * (max([2, *map(len, re.findall("`+", text))]) + 1)
    return f"{fence}yaml\n{text}{fence}"


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))
