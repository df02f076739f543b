"""Several corruptions in one `restor` run: which stage comes of which, and what it is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from soul_lightning.cli.arguments import nearest
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.metrics.claims import Origin

if TYPE_CHECKING:
    from soul_lightning.cli.stages import RestorConfig

KEYS = ("clean", "baseline")


@dataclass(frozen=True, slots=True)
class Corruption:
    """One corrupted stage beside the main one.

    Attributes:
        corrupted: The stage that lost what its clean stage knew.
        clean: The stage whose knowledge is to come back.
        baseline: The stage that what comes of it is compared with, fact by fact.
    """

    corrupted: str
    clean: str
    baseline: str | None


def read_corruptions(
    settings: Mapping[str, Mapping[str, Any]], names: Sequence[str], clean: str
) -> tuple[Corruption, ...]:
    """The settings under `table.corruptions`.

    Args:
        settings: By corrupted stage.
        names: The stages there are.
        clean: The clean stage where none is named.

    Raises:
        MisconfigurationError: A key is unknown, or there is no stage of a name.
    """
    for name, own in settings.items():
        for key in own:
            if key not in KEYS:
                raise MisconfigurationError(
                    f"table.corruptions.{name} has no key {key!r}{nearest(key, KEYS)}; its keys are {', '.join(KEYS)}"
                )
        for stage in (name, *own.values()):
            if stage is not None and stage not in names:
                raise MisconfigurationError(
                    f"table.corruptions.{name} names {stage!r}, and there is no such stage"
                    f"{nearest(str(stage), names)}; the stages are {', '.join(names)}"
                )
    return tuple(Corruption(name, own.get("clean") or clean, own.get("baseline")) for name, own in settings.items())


def branches(config: RestorConfig) -> list[RestorConfig]:
    """The configuration cut up by corruption, the main one first: each has the stages that come of it, and its own."""
    belongs = _belonging(config)
    main = Corruption(config.corrupted, config.clean, config.baseline)
    cleans = {each.clean for each in (main, *config.further)}
    found = []
    for own in (main, *config.further):
        stages = tuple(
            stage
            for stage in config.stages
            if stage.name == own.clean or (stage.name not in cleans and belongs[stage.name] == own.corrupted)
        )
        found.append(
            replace(config, stages=stages, clean=own.clean, corrupted=own.corrupted, baseline=own.baseline, further=())
        )
    return found


def origins(config: RestorConfig) -> dict[str, Origin]:
    """What the restoration of each stage is measured against."""
    return {
        stage.name: Origin(branch.clean, branch.corrupted) for branch in branches(config) for stage in branch.stages
    }


def _belonging(config: RestorConfig) -> dict[str, str]:
    """By stage the corrupted stage that it is or comes of; the main one where there is none."""
    corrupted = {each.corrupted for each in config.further}
    found: dict[str, str] = {}
    for stage in config.stages:  # a stage starts from earlier ones only
        before = [found[name] for name in stage.upstream if found[name] != config.corrupted]
        found[stage.name] = stage.name if stage.name in corrupted else next(iter(before), config.corrupted)
    return found
