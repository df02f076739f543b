"""`python -m soul_lightning.cli.rebuild_tiny_world`: trains the packaged tiny models anew, with the packaged recipe.

The models of seed 0 of the `tiny-world` recipe (clean, corrupted, retain-only) are stored in float16 and loaded into
float32.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch

from soul_lightning.cli.recipe_files import find_recipe
from soul_lightning.cli.restoring import restor
from soul_lightning.cli.stages import parse_config, read_yaml
from soul_lightning.datamodules.tiny_world.world import build_tokenizer, build_world, tiny_llama_config, vocabulary
from soul_lightning.networks.loading import PretrainedNetwork
from soul_lightning.networks.saving import save_pretrained

MODELS = {"clean": "shared/clean", "corrupted": "seed0/corrupted", "retain_only": "seed0/retain-only"}
"""Packaged name of each model, and its stage's folder in the output of `restor`."""


def packaged_folder() -> Path:
    """Where the package keeps the models."""
    return Path(str(resources.files("soul_lightning.networks"))) / "packaged" / "tiny_world"


def main(args: Sequence[str] | None = None) -> None:
    """Train the models and store them."""
    parser = argparse.ArgumentParser(description="Train the packaged tiny models anew.")
    parser.add_argument("--output", type=Path, default=packaged_folder(), help="where the models go")
    output: Path = parser.parse_args(args).output
    torch.manual_seed(0)
    seed_folder(output / "clean")
    recipe = find_recipe("tiny-world").require("restor")
    raw = read_yaml(recipe.text, str(recipe.path))
    stages = {name: raw["stages"][name] for name in ("clean", "corrupted", "retain-only")}
    config = parse_config({**raw, "seeds": [0], "stages": stages})
    with tempfile.TemporaryDirectory() as scratch:
        run, _ = restor(config, "tiny-world", Path(scratch) / "run")
        for name, stage in MODELS.items():
            source = PretrainedNetwork(str(run / stage / "export"))
            save_pretrained(source.load_network().half(), source.load_tokenizer(), output / name, replace=True)


def seed_folder(folder: Path) -> None:
    """Architecture and tokenizer of the world, which the recipe's first stage starts from; random weights."""
    from transformers import LlamaForCausalLM

    tokenizer = build_tokenizer(vocabulary(build_world()))
    save_pretrained(LlamaForCausalLM(tiny_llama_config(tokenizer)), tokenizer, folder, replace=True)


if __name__ == "__main__":
    main()
