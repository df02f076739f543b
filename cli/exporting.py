"""From a run folder or a checkpoint to a Hugging Face folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from soul_lightning.checkpoint_io import read_checkpoint
from soul_lightning.cli.declared_types import refuse_undeclared, restrict_parsing
from soul_lightning.cli.mistakes import as_sentences
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.files import folder_replaced_when_written
from soul_lightning.networks.loading import PACKAGED_PREFIX, PretrainedNetwork, resolve_source
from soul_lightning.networks.model_card import model_card, read_configuration
from soul_lightning.networks.saving import refuse_filled, save_pretrained
from soul_lightning.run_folder import CONFIG_NAME, EXPORT_NAME, read_summary

WEIGHTS_PREFIX = "network."


def export(source: Path, destination: Path, config: Path | None = None) -> Path:
    """Make the folder; it appears only when it is complete.

    Args:
        source: A run folder, a `.ckpt` file, or `packaged:NAME`, a model of this package.
        destination: A new folder.
        config: The `config.yaml` of the checkpoint's run, where it does not stand beside the checkpoint.

    Returns:
        What was exported: the run's own export, a checkpoint, or the packaged model's folder.

    Raises:
        MisconfigurationError: The source is none of these, or the destination is not empty.
    """
    refuse_filled(destination)
    if str(source).startswith(PACKAGED_PREFIX):
        packaged = Path(resolve_source(str(source)))
        _copy(packaged, destination)
        return packaged
    if source.is_dir():
        ready = source / EXPORT_NAME
        if (ready / "config.json").is_file():
            _copy(ready, destination)
            return ready
        source = _newest_checkpoint(source)
    if not source.is_file():
        raise MisconfigurationError(f"{str(source)!r} is neither a run folder nor a checkpoint; check the path")
    network = _network_settings(_config_of(source, config))
    model = network.load_network()
    try:
        model.load_state_dict(_weights(source))
    except RuntimeError as error:
        raise MisconfigurationError(
            f"the weights of {str(source)!r} do not fit the network of its config.yaml "
            f"({network.pretrained_model_name_or_path}); name the right one with --config"
        ) from error
    merges = network.lora is None or network.lora.merge_when_saved
    save_pretrained(
        model, network.load_tokenizer(), destination, merge_adapters=merges, card=_card(_config_of(source, config))
    )
    return source


def _card(config: Path) -> str:
    """Of a checkpoint: the summary beside its configuration tells of the data, its metrics are those of the end."""
    summary = read_summary(config.parent) or {}
    hashes = summary.get("data_hashes")
    remarks = "Exported from a checkpoint, at which the metrics of the run's end were not measured."
    return model_card(read_configuration(config), hashes if isinstance(hashes, dict) else None, remarks=remarks)


def _newest_checkpoint(run: Path) -> Path:
    checkpoints = sorted(run.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not checkpoints:
        raise MisconfigurationError(f"the folder {str(run)!r} holds neither export/ nor checkpoints/*.ckpt; name a run")
    return checkpoints[-1]


def _weights(checkpoint: Path) -> dict[str, Any]:
    """The network's weights alone; nothing in the file is executed."""
    stored = read_checkpoint(checkpoint, mmap=True)["state_dict"]
    return {key.removeprefix(WEIGHTS_PREFIX): value for key, value in stored.items() if key.startswith(WEIGHTS_PREFIX)}


def _config_of(checkpoint: Path, config: Path | None) -> Path:
    """The configuration of the run that wrote the checkpoint."""
    places = [config] if config else [checkpoint.parent / CONFIG_NAME, checkpoint.parent.parent / CONFIG_NAME]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise MisconfigurationError(
            f"no config.yaml stands beside {str(checkpoint)!r}, and the checkpoint holds weights only; "
            f"name its run's config.yaml with --config"
        )
    return path


def _network_settings(path: Path) -> PretrainedNetwork:
    """The `network` of a run's configuration."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        network = settings["model"]["init_args"]["network"]
    except (KeyError, TypeError) as error:
        raise MisconfigurationError(
            f"{str(path)!r} has no model.init_args.network; name a run's config.yaml"
        ) from error
    restrict_parsing()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=PretrainedNetwork)
    with as_sentences():
        given = parser.parse_object({"network": network})
        refuse_undeclared(parser, given)
        parsed: PretrainedNetwork = parser.instantiate_classes(given).network
    return parsed


def _copy(ready: Path, destination: Path) -> None:
    with folder_replaced_when_written(destination) as temporary:
        shutil.copytree(ready, temporary, dirs_exist_ok=True)
