"""Where a callback finds the model, the tokenizer and the probes of a LightningModule it knows nothing about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from random import Random

from lightning.pytorch import LightningModule, Trainer
from torch import nn
from transformers import PreTrainedTokenizerBase

from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.networks.loading import load_tokenizer
from soul_lightning.protocols import Probe, SuppliesProbes, SuppliesSummary
from soul_lightning.records.probe_files import ProbeFile, read_probe
from soul_lightning.templates import PromptTemplate

AXES = ("step", "epoch")
"""Logged beside the metrics, and no metrics."""


def last_metrics(trainer: Trainer) -> dict[str, float | None]:
    """Every number of a run that was logged last or that a callback reports; `None` where one has no meaning."""
    metrics: dict[str, float | None] = {
        name: float(value) for name, value in trainer.callback_metrics.items() if name not in AXES
    }
    for callback in getattr(trainer, "callbacks", ()):  # set by a connector, unknown to type checkers
        if isinstance(callback, SuppliesSummary):
            metrics.update(callback.summary())
    return metrics


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


def find_probes(
    caller: str,
    trainer: Trainer,
    pl_module: LightningModule,
    own: Sequence[Probe | ProbeFile] | Mapping[str, str] | None,
) -> list[Probe]:
    """The probes: the callback's own, else the DataModule's, else the module's.

    Files are read with the DataModule's template where they name none.

    Raises:
        MisconfigurationError: None of them has any, or a file is not usable.
    """
    if own is not None:
        files = [ProbeFile(path, role) for role, path in own.items()] if isinstance(own, Mapping) else own
        template = getattr(getattr(trainer, "datamodule", None), "template", None)
        usual = template if isinstance(template, PromptTemplate) else PromptTemplate()
        return [read_probe(file, usual) if isinstance(file, ProbeFile) else file for file in files]
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
    """The probes of a role whose rows' likelihood is to be scored: its texts, or its questions where it has none."""
    own = own_probes(probes, role)
    return [probe for probe in own if probe.kind == "text"] or own


def own_probes(probes: Sequence[Probe], role: str) -> list[Probe]:
    """The texts and questions of a role, each row once."""
    return [
        probe for probe in probes if probe.role == role and probe.kind in ("text", "question") and not probe.rows_of
    ]


def answered_probe(probes: Sequence[Probe], scored: Probe) -> Probe | None:
    """Where the rows of `scored`, whose likelihood is scored, are asked as questions, if they are.

    A set of questions is both. Of several sets that ask a set of texts, the first asks in the rows' own words; others
    are for attacks.
    """
    if scored.kind == "question":
        return scored
    return next((probe for probe in probes if probe.kind == "question" and probe.rows_of == scored.name), None)


def has_false_answers(probe: Probe) -> bool:
    """Whether every row has false answers, for truth ratios and options."""
    return bool(probe.examples) and all(row.perturbed for row in probe.examples)


def missing_roles(probes: Sequence[Probe], roles: Sequence[str]) -> str:
    """Which of `roles` no probe has whose likelihood could be scored, in words; empty where none is missing."""
    missing = [role for role in roles if not own_probes(probes, role)]
    there = ", ".join(sorted({probe.role for probe in probes})) or "none"
    return f"there is none of the role {' and '.join(missing)} (roles there are: {there})" if missing else ""
