"""Where a callback finds the model, the tokenizer and the probes of a LightningModule it knows nothing about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from random import Random

from lightning.pytorch import LightningModule, Trainer
from torch import nn
from transformers import PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import load_tokenizer
from soul_lightning.protocols import Probe, SuppliesProbes


def find_network(caller: str, pl_module: LightningModule, attribute: str | None) -> nn.Module:
    """The language model: the named attribute of the module, else its `network`, else its `model`.

    Args:
        caller: The callback, for the error.
        pl_module: The module that trains.
        attribute: Name of the attribute, dots allowed; none tries the usual two.

    Raises:
        MisconfigurationError: None of them is a network.
    """
    for name in [attribute] if attribute is not None else ["network", "model"]:
        try:
            found = attrgetter(name)(pl_module)
        except AttributeError:
            continue
        if isinstance(found, nn.Module):
            return found
    raise MisconfigurationError(
        f"{caller} found no language model: tried its own argument network ({attribute!r}), then "
        f"{type(pl_module).__name__}.network and .model; name the attribute that holds it with network=…"
    )


def find_tokenizer(
    caller: str, trainer: Trainer, pl_module: LightningModule, own: str | PreTrainedTokenizerBase | None
) -> PreTrainedTokenizerBase:
    """The tokenizer: the callback's own, else the DataModule's, else that of the module or of its network.

    Raises:
        MisconfigurationError: None of them has one.
    """
    if isinstance(own, str):
        return load_tokenizer(own)
    if own is not None:
        return own
    datamodule = getattr(trainer, "datamodule", None)
    holders = [datamodule, pl_module, getattr(pl_module, "network", None), getattr(pl_module, "model", None)]
    for holder in holders:
        try:
            found = getattr(holder, "tokenizer", None)
        except MisconfigurationError:  # it has the property and nothing to give: the next one may
            continue
        if isinstance(found, PreTrainedTokenizerBase):
            return found
    raise MisconfigurationError(
        f"{caller} found no tokenizer: tried its own argument tokenizer (none), then trainer.datamodule "
        f"({type(datamodule).__name__}), then {type(pl_module).__name__} and its network or model; pass tokenizer=…"
    )


def find_probes(caller: str, trainer: Trainer, pl_module: LightningModule, own: Sequence[Probe] | None) -> list[Probe]:
    """The probes: the callback's own, else the DataModule's, else the module's.

    Raises:
        MisconfigurationError: None of them has any.
    """
    if own is not None:
        return list(own)
    datamodule = getattr(trainer, "datamodule", None)
    for holder in (datamodule, pl_module):
        if isinstance(holder, SuppliesProbes):
            return list(holder.probes())
    raise MisconfigurationError(
        f"{caller} found no probes: tried its own argument probes (none), then trainer.datamodule.probes() "
        f"({type(datamodule).__name__}), then {type(pl_module).__name__}.probes(); pass probes=[Probe(…)]"
    )


def limited(probe: Probe, limit: int | None, seed: int) -> Probe:
    """At most `limit` of the probe's examples, drawn once and for all by `seed`, in their order."""
    if limit is None or limit >= len(probe.examples):
        return probe
    places = sorted(Random(seed).sample(range(len(probe.examples)), limit))
    return replace(probe, examples=[probe.examples[place] for place in places])


def likelihood_probes(probes: Sequence[Probe], role: str) -> list[Probe]:
    """The probes of a role whose likelihood is to be scored: its texts, or its questions where it has no texts."""
    own = [probe for probe in probes if probe.role == role]
    return [probe for probe in own if probe.kind == "text"] or own
