"""The stages of `restor`: reading their configuration, filling in seeds and upstream models, telling what changed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader

import soul_lightning
from soul_lightning import __version__
from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.claims import Claim, parse_claims
from soul_lightning.cli.corruptions import Corruption, read_corruptions
from soul_lightning.exceptions import MisconfigurationError

STAGE_PREFIX = "stage:"
"""Before a stage's name, anywhere in a later stage: the folder of that stage's model."""
SEED_PLACEHOLDER = "${seed}"
KEYS = ("seeds", "fit", "stages", "restoration", "table", "claims")
NAMED_SECTIONS = ("stages", "objectives", "optimizers", "methods")
"""Keys below which names stand that a recipe chose: an override must not misspell one into a new one."""
STAGE_KEYS = ("pretrained", "shared", "repair")
"""Keys of a stage that are no settings of `fit`."""
_NAME = re.compile(r"\w[\w.-]{0,199}")


@dataclass(frozen=True)
class Stage:
    """One model of the comparison.

    Attributes:
        name: What it is called in the table.
        config: The settings of its `fit`, the shared ones merged in, placeholders and all; empty for `pretrained`.
        pretrained: A model that is taken as it is.
        shared: Made once, with the first seed, for all seeds.
        upstream: Names of the stages whose models it starts from.
        repair: Whether it only makes another stage's model usable again; it is reported as such.
    """

    name: str
    config: Mapping[str, Any]
    pretrained: str | None
    shared: bool
    upstream: tuple[str, ...]
    repair: bool = False


@dataclass(frozen=True)
class RestorConfig:
    """A whole `restor` configuration.

    Attributes:
        seeds: One run of every stage each.
        fit: What the stages share.
        stages: In order; a stage starts from earlier ones only.
        baseline: The stage that the others are compared with, fact by fact.
        clean: The stage whose knowledge is to come back.
        corrupted: The stage that lost it.
        restoration: How answers are asked for and judged.
        raw: All of it as it was read.
        bleu: Whether BLEU of the answers is reported too.
        further: Other corruptions than that of `corrupted`; the stages that come of one are measured against its own.
        claims: What is said of the stages, and the differences that it rests on.
    """

    seeds: tuple[int, ...]
    fit: Mapping[str, Any]
    stages: tuple[Stage, ...]
    baseline: str | None
    clean: str
    corrupted: str
    restoration: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    bleu: bool = False
    further: tuple[Corruption, ...] = ()
    claims: tuple[Claim, ...] = ()


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """A YAML mapping, numbers such as 1e-5 included.

    Raises:
        MisconfigurationError: It is none.
    """
    try:
        config = get_loader("yaml")(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split()).replace(' in "<unicode string>"', "")
        raise MisconfigurationError(f"{source} is no YAML: {reason}; mend that line") from error
    if not isinstance(config, dict):
        raise MisconfigurationError(f"{source} must hold keys and values, got {type(config).__name__}")
    return config


def override(config: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Set dotted keys: `--fit.data.init_args.batch_size 8`, `--seeds='[0, 1]'`.

    Args:
        config: The configuration; left as it is.
        arguments: What stood on the command line; values are read as YAML.

    Raises:
        MisconfigurationError: A key without a value, or a value that is no YAML.
    """
    changed: dict[str, Any] = json.loads(json.dumps(config))
    rest = list(arguments)
    while rest:
        key, equals, value = rest.pop(0).partition("=")
        if not key.startswith("--"):
            raise MisconfigurationError(f"{key!r} stands alone; give settings as --dotted.key VALUE")
        if not equals:
            if not rest:
                raise MisconfigurationError(f"{key} needs a value")
            value = rest.pop(0)
        try:
            parsed = get_loader("yaml")(value)
        except yaml.YAMLError as error:
            raise MisconfigurationError(f"{key}: {value!r} is no YAML; mend its brackets or quotes") from error
        _set(changed, key.removeprefix("--"), parsed)
    return changed


def _set(config: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    section = path[0] if path else last
    there = config.get(section)
    if section in NAMED_SECTIONS and isinstance(there, dict) and len(path) > 1 and path[1] not in there:
        raise MisconfigurationError(
            f"--{dotted}: there is no {section.removesuffix('s')} {path[1]!r}{nearest(path[1], there)}; "
            f"the {section} are {', '.join(there)}"
        )
    for place in path:
        below = config.setdefault(place, {})
        if not isinstance(below, dict):
            raise MisconfigurationError(f"--{dotted}: {place!r} holds a value, and no keys below it can be set")
        config = below
    config[last] = value


def parse_config(raw: Mapping[str, Any]) -> RestorConfig:
    """Check a `restor` configuration and merge what the stages share.

    Raises:
        MisconfigurationError: A key is unknown, a stage refers to one that is not before it, a stage says nothing.
    """
    for key in raw:
        if key not in KEYS:
            raise MisconfigurationError(
                f"a restor recipe has no key {key!r}{nearest(key, KEYS)}; its keys are {', '.join(KEYS)}"
            )
    seeds = read_seeds(raw.get("seeds", [0]), "seeds")
    fit = mapping(raw.get("fit"), "fit")
    if not fit.get("data"):
        raise MisconfigurationError("fit.data is missing; name the DataModule that supplies the texts and the probes")
    table = mapping(raw.get("table"), "table")
    stages = _stages(mapping(raw.get("stages"), "stages"), fit)
    names = [stage.name for stage in stages]
    clean, corrupted = table.get("clean", "clean"), table.get("corrupted", "corrupted")
    baseline = table.get("baseline", "retain-only" if "retain-only" in names else None)
    for role, name in (("clean", clean), ("corrupted", corrupted), ("baseline", baseline)):
        if name is not None and name not in names:
            raise MisconfigurationError(
                f"table.{role} is {name!r}, and there is no such stage{nearest(name, names)}; "
                f"the stages are {', '.join(names)}"
            )
    bleu = table.get("bleu", False)
    if not isinstance(bleu, bool):
        raise MisconfigurationError(f"table.bleu must be true or false, got {bleu!r}")
    restoration = mapping(raw.get("restoration"), "restoration")
    others = {
        str(name): mapping(own, f"table.corruptions.{name}")
        for name, own in mapping(table.get("corruptions"), "table.corruptions").items()
    }
    further = read_corruptions(others, names, clean, corrupted)
    claims = parse_claims(mapping(raw.get("claims"), "claims"), names)
    return RestorConfig(seeds, fit, stages, baseline, clean, corrupted, restoration, raw, bleu, further, claims)


def _stages(settings: Mapping[str, Any], fit: Mapping[str, Any]) -> tuple[Stage, ...]:
    if not settings:
        raise MisconfigurationError("stages is empty; name at least a clean and a corrupted stage")
    done: dict[str, Stage] = {}
    for name, own in settings.items():
        check_name(name, "a stage")
        if own is None:  # left out, so that a recipe can be cut down
            continue
        own = mapping(own, f"stages.{name}")
        pretrained = own.get("pretrained")
        below = {key: value for key, value in own.items() if key not in STAGE_KEYS}
        if pretrained is not None and below:
            raise MisconfigurationError(
                f"stages.{name}: pretrained takes a model as it is, and {', '.join(below)} would have no effect; "
                f"remove one or the other"
            )
        if pretrained is None and "model" not in below and "model" not in fit:
            raise MisconfigurationError(f"stages.{name} has neither a model to train nor pretrained; give one of them")
        config = {} if pretrained is not None else merged(fit, below)
        upstream = tuple(sorted(references(config)))
        for other in upstream:
            if other not in done:
                raise MisconfigurationError(
                    f"stages.{name} starts from {STAGE_PREFIX}{other}, which is no stage before it"
                    f"{nearest(other, done)}; put it first"
                )
        shared = bool(own.get("shared", pretrained is not None))
        loose = [other for other in upstream if not done[other].shared]
        if shared and loose:
            raise MisconfigurationError(
                f"stages.{name} is shared by all seeds and starts from {loose[0]!r}, which is not; share both or none"
            )
        done[name] = Stage(name, config, pretrained, shared, upstream, _is_repair(name, own, upstream))
    return tuple(done.values())


def _is_repair(name: str, own: Mapping[str, Any], upstream: Sequence[str]) -> bool:
    repair = own.get("repair", False)
    if not isinstance(repair, bool):
        raise MisconfigurationError(f"stages.{name}.repair must be true or false, got {repair!r}")
    if repair and len(upstream) != 1:
        raise MisconfigurationError(
            f"stages.{name} repairs the model of one stage before it, and starts from {', '.join(upstream) or 'none'}; "
            f"name one as its network, as in {STAGE_PREFIX}npo"
        )
    return repair


def read_seeds(value: Any, key: str) -> tuple[int, ...]:
    """The seeds under `key`.

    Raises:
        MisconfigurationError: They are no list of different whole numbers.
    """
    numbers = isinstance(value, list) and all(type(seed) is int for seed in value)
    if not numbers or not value or len(set(value)) < len(value):
        raise MisconfigurationError(f"{key} must be a list of different whole numbers, as in [0, 1, 2], got {value!r}")
    return tuple(value)


def check_name(name: Any, what: str) -> None:
    """A name that a recipe chose names a folder too.

    Raises:
        MisconfigurationError: It cannot.
    """
    if not _NAME.fullmatch(str(name)):
        raise MisconfigurationError(
            f"{what} cannot be called {name!r:.60}; begin with a letter or a digit, and go on with letters, digits, "
            f"'.', '_' and '-', 200 characters at most"
        )


def merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`own` on top of `base`, key by key; another `class_path` takes none of the settings of the class below."""
    both = dict(base)
    for key, value in own.items():
        below = both.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            classes = (value.get("class_path"), below.get("class_path"))
            other_class = None not in classes and classes[0] != classes[1]
            both[key] = dict(value) if other_class else merged(below, value)
        else:
            both[key] = value
    return both


def references(value: Any) -> set[str]:
    """Names behind `stage:` anywhere in a configuration."""
    if isinstance(value, Mapping):
        return {name for inner in value.values() for name in references(inner)}
    if isinstance(value, list):
        return {name for inner in value for name in references(inner)}
    found = isinstance(value, str) and value.startswith(STAGE_PREFIX)
    return {value.removeprefix(STAGE_PREFIX)} if found else set()


def filled(value: Any, seed: int, models: Mapping[str, str]) -> Any:
    """A configuration with the seed and the folders of upstream models in their places."""
    if isinstance(value, Mapping):
        return {key: filled(inner, seed, models) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, seed, models) for inner in value]
    if not isinstance(value, str):
        return value
    if value == SEED_PLACEHOLDER:
        return seed
    if value.startswith(STAGE_PREFIX):
        return models.get(value.removeprefix(STAGE_PREFIX), value)
    return value.replace(SEED_PLACEHOLDER, str(seed))


def content_hash(*parts: Any) -> str:
    """A hash of plain values and of the package's version, 16 hexadecimal digits."""
    text = json.dumps([__version__, *parts], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def model_files(name_or_path: str) -> list[tuple[str, int, int]]:
    """Name, bytes and time of change (nanoseconds) of a local model's files, so that another model is noticed."""
    folder = Path(name_or_path).expanduser()
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


@cache
def package_hash() -> str:
    """A hash of this package's own code, computed once; the links to callbacks, datamodules and cli are followed."""
    found = hashlib.sha256()
    root = Path(soul_lightning.__file__).parent
    for path in _below(root):
        if path.suffix == ".py":
            found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def named_files(settings: Any, outside: Path) -> list[tuple[str, int, int]]:
    """Path, bytes and time of change (nanoseconds) of every local file that settings name, so that others are noticed.

    A folder stands for all files below it, a class by import path for the file that it is written in. Encoded rows in
    a `cache_dir` are no input, and neither is what a run writes.

    Args:
        settings: Configuration of a module or a DataModule.
        outside: The output folder.
    """
    paths: set[Path] = set()
    for text in _texts(settings):
        path = _path(text)
        if path is not None and path.is_file():
            paths.add(path)
        elif path is not None:
            paths.update(each for each in _below(path) if not each.is_relative_to(outside.absolute()))
    statistics = [(str(path), path.stat()) for path in sorted(paths)]
    return [(name, each.st_size, each.st_mtime_ns) for name, each in statistics]


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key != "cache_dir":
                yield from _texts(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)
    elif isinstance(settings, str):
        yield settings


def _path(text: str) -> Path | None:
    """The file or folder that `text` names, or the file of the class whose import path it is."""
    try:
        path = Path(text).expanduser().absolute()
        if text and path.exists():
            return path
    except (OSError, RuntimeError, ValueError):  # a text that can be no path
        return None
    module, _, name = text.rpartition(".")
    if module.startswith("soul_lightning") or not all(part.isidentifier() for part in (name, *module.split("."))):
        return None  # this package's own code is hashed as a whole
    package = module.rpartition(".")[0]
    if package and package not in sys.modules:
        return None  # parsing has imported what is a class, and looking for other texts would import their packages
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found is not None and found.has_location and found.origin is not None else None


def _below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of names; what is hidden is left out."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """`value` as keys and values; nothing where it is none.

    Raises:
        MisconfigurationError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MisconfigurationError(f"{name} must hold keys and values, got {value!r}")
    return value
