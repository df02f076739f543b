"""What a model folder may hold: data, and nothing that runs when it is loaded, unless the user asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soul_lightning.exceptions import MisconfigurationError

PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Endings of weights that torch unpickles, and unpickling can run code."""
_SAFE_SUFFIX = ".safetensors"


def refuse_unsafe_model(
    source: str, attn_implementation: str | None = None, *, trust_remote_code: bool = False
) -> None:
    """Refuse, before anything is loaded, a local folder whose loading would unpickle, run or fetch something.

    Files that loading leaves alone may lie there: pickled weights beside safetensors, or Python files that nothing
    names. What a hub name stands for is held to the same by the arguments with which it is loaded.

    Args:
        source: A model, tokenizer or adapter folder, or a hub name.
        attn_implementation: The attention kernel, where the user chose one.
        trust_remote_code: Code that comes with the model is to run.

    Raises:
        MisconfigurationError: The weights are pickled, an index names a file elsewhere, or a kernel would be fetched.
    """
    folder = Path(source)
    if folder.is_dir():
        _refuse_pickles(folder)
        for index in sorted(folder.glob(f"*{_SAFE_SUFFIX}.index.json")):
            _refuse_foreign_shards(index)
    if trust_remote_code:
        return
    chosen = {"attn_implementation": attn_implementation}
    for name in (*_fetched_kernels(chosen), *_fetched_kernels(_read_json(folder / "config.json"))):
        raise MisconfigurationError(
            f"{source!r} would run with the kernel {name!r}, compiled code that is fetched from the hub; set "
            f"network.attn_implementation to sdpa or eager, or network.trust_remote_code if you trust its author"
        )


def needs_own_code(error: Exception) -> bool:
    """Whether transformers has refused a model because it is nothing without the Python code that comes with it."""
    return "trust_remote_code" in str(error)


def _refuse_pickles(folder: Path) -> None:
    """Weights that would be unpickled, for want of safetensors of the same kind."""
    for kind, safe in (("adapter_model", "adapter_config.json"), ("", "config.json")):
        if not (folder / safe).is_file():
            continue
        files = [path for path in sorted(folder.iterdir()) if path.name.startswith("adapter_model") == bool(kind)]
        pickled = [path for path in files if path.suffix in PICKLED_SUFFIXES and path.name != "training_args.bin"]
        if pickled and not any(path.suffix == _SAFE_SUFFIX for path in files):
            load = "PeftModel.from_pretrained(…)" if kind else "AutoModelForCausalLM.from_pretrained(…)"
            raise MisconfigurationError(
                f"the weights in {str(folder)!r} are pickled ({pickled[0].name}), which can run code when it is read; "
                f"if you trust their author, convert them once with {load}.save_pretrained(NEW_FOLDER), which writes "
                f"safetensors, and give that folder"
            )


def _refuse_foreign_shards(index: Path) -> None:
    shards = _read_json(index).get("weight_map")
    for name in shards.values() if isinstance(shards, dict) else []:
        if not isinstance(name, str) or name != Path(name).name:
            raise MisconfigurationError(
                f"{index} names the file {name!r}, which does not lie beside it; fetch the model again"
            )


def _fetched_kernels(config: Any) -> Iterator[str]:
    """Implementations in a configuration, and in those below it, that have an owner on the hub."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, dict):
            yield from _fetched_kernels(value)
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")):
            yield from (name for name in _strings(value) if "/" in name)


def _strings(value: Any) -> list[str]:
    values = value.values() if isinstance(value, dict) else [value]
    return [each for each in values if isinstance(each, str)]


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; nothing where there is none, for the loading says what is wrong with it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
