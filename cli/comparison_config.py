"""The configuration of `compare`: objectives, optimizers with their grids, seeds, and what every run shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

from soul_lightning.cli.arguments import nearest
from soul_lightning.cli.rate_tuning import CRITERIA, Criterion, check_rates
from soul_lightning.cli.stages import (
    Stage,
    check_name,
    content_hash,
    mapping,
    merged,
    parse_config,
    read_seeds,
    references,
)
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.reports.grid import rate_text

KEYS = (
    "seeds", "tuning_seeds", "fit", "stages", "model", "objectives", "optimizers", "baseline", "tuning", "restoration",
    "control_objective", "workers", "keep_models",
)  # fmt: skip
_OF_STAGES = ("seeds", "fit", "stages", "restoration")
_OBJECTIVE_KEYS = (
    "forget", "retain", "forget_weight", "reference_policy", "gradient_surgery", "sharpness_radius", "pruning",
)  # fmt: skip
"""What an objective may say about the module; everything else is the optimizer's, or the same for all runs."""
_OPTIMIZER_KEYS = ("rates", "optimizer", "curvature", "max_grad_norm", "lr_scheduler", "micro_batches")
"""What an optimizer may say; the model, the loss and the budget are the same for all of them."""
_QUIET = {"logger": False, "enable_progress_bar": False}
MOST_RATES = 9
CLEAN, CORRUPTED = "clean", "corrupted"


@dataclass(frozen=True)
class Pair:
    """An objective with an optimizer: one row of the comparison.

    Attributes:
        objective: The objective's name.
        optimizer: The optimizer's name.
        rates: The learning rates that are tried first, ascending.
        config: The settings of its `fit`, all but the rate.
    """

    objective: str
    optimizer: str
    rates: tuple[float, ...]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What it is called in the tables."""
        return f"{self.objective}-{self.optimizer}"

    def at(self, rate: float) -> Stage:
        """Its run at one learning rate, as a stage."""
        own = {"model": {"init_args": {"optimizer": {"init_args": {"lr": rate}}}}}
        config = merged(self.config, own)
        return Stage(f"{self.name}-{rate_text(rate)}", config, None, False, tuple(sorted(references(config))))


@dataclass(frozen=True)
class CompareConfig:
    """A whole `compare` configuration.

    Attributes:
        seeds: One run each of every stage and of every pair at its chosen rate: these are reported.
        tuning_seeds: One run each of every pair at every rate: these choose the rates and are reported nowhere.
        fit: What all runs share.
        stages: The models that the pairs start from and are seen beside, `clean` and `corrupted` among them.
        pairs: Every objective with every optimizer.
        baseline: The optimizer that the others are compared with, fact by fact, under the same objective.
        control_objective: The objective that the others are compared with, fact by fact, under the same optimizer.
        criterion: How a rate is judged.
        most_rates: A grid is extended to so many rates at most.
        restoration: How answers are asked for and judged.
        workers: Processes, of one thread each; none runs everything in this process.
        keep_models: Keep the weights of the pairs' runs, not their answers alone.
        raw: All of it as it was read.
    """

    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    fit: Mapping[str, Any]
    stages: tuple[Stage, ...]
    pairs: tuple[Pair, ...]
    baseline: str
    control_objective: str | None
    criterion: Criterion
    most_rates: int
    restoration: Mapping[str, Any]
    workers: int | None
    keep_models: bool
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tuning_stages(self) -> tuple[Stage, ...]:
        """The stages that tuning needs: those that the pairs start from, and what rates are measured against."""
        needed = {CLEAN, CORRUPTED}.union(*(pair.at(pair.rates[0]).upstream for pair in self.pairs))
        for stage in reversed(self.stages):
            needed |= set(stage.upstream) if stage.name in needed else set()
        return tuple(stage for stage in self.stages if stage.name in needed)


def parse_comparison(raw: Mapping[str, Any]) -> CompareConfig:
    """Check a `compare` configuration and merge what its runs share.

    Raises:
        MisconfigurationError: A key is unknown, seeds overlap, a grid is no grid, an optimizer changes the budget.
    """
    _check_keys(raw, KEYS, "a compare recipe")
    settings = mapping(raw.get("fit"), "fit")
    settings = {**settings, "trainer": _QUIET | dict(mapping(settings.get("trainer"), "fit.trainer"))}
    base = parse_config({key: raw[key] for key in _OF_STAGES if key in raw} | {"fit": settings})
    for stage in base.stages:
        if stage.repair:
            raise MisconfigurationError(
                f"stages.{stage.name}.repair is true, and compare reports no repairs; remove the stage, or use restor"
            )
    tuning_seeds = read_seeds(raw.get("tuning_seeds"), "tuning_seeds")
    both = sorted(set(base.seeds) & set(tuning_seeds))
    if both:
        raise MisconfigurationError(
            f"seed {both[0]} stands in seeds and in tuning_seeds, and a rate chosen on a reported seed would flatter "
            f"it; take other tuning seeds, such as {1000 + both[0]}"
        )
    pairs = _pairs(raw, settings, {stage.name for stage in base.stages})
    optimizers = list(dict.fromkeys(pair.optimizer for pair in pairs))
    baseline = raw.get("baseline", optimizers[0])
    if baseline not in optimizers:
        raise MisconfigurationError(
            f"baseline is {baseline!r}, and there is no such optimizer{nearest(str(baseline), optimizers)}; "
            f"the optimizers are {', '.join(optimizers)}"
        )
    objectives = list(dict.fromkeys(pair.objective for pair in pairs))
    control_objective = raw.get("control_objective")
    if control_objective is not None and control_objective not in objectives:
        raise MisconfigurationError(
            f"control_objective is {control_objective!r}, and there is no such objective"
            f"{nearest(str(control_objective), objectives)}; take one of {', '.join(objectives)}, or null"
        )
    criterion, most_rates = _tuning(mapping(raw.get("tuning"), "tuning"))
    workers, keep_models = raw.get("workers"), raw.get("keep_models", False)
    if workers is not None and (type(workers) is not int or workers < 1):
        raise MisconfigurationError(f"workers must be a whole number >= 1, or null for this process, got {workers!r}")
    if not isinstance(keep_models, bool):
        raise MisconfigurationError(f"keep_models must be true or false, got {keep_models!r}")
    return CompareConfig(
        seeds=base.seeds,
        tuning_seeds=tuning_seeds,
        fit=base.fit,
        stages=base.stages,
        pairs=pairs,
        baseline=baseline,
        control_objective=control_objective,
        criterion=criterion,
        most_rates=most_rates,
        restoration=base.restoration,
        workers=workers,
        keep_models=keep_models,
        raw=raw,
    )


def experiment_hash(raw: Mapping[str, Any]) -> str:
    """A hash of what is compared; how it is run does not enter."""
    return content_hash({key: value for key, value in raw.items() if key not in ("workers", "keep_models")})


def _pairs(raw: Mapping[str, Any], fit: Mapping[str, Any], stages: set[str]) -> tuple[Pair, ...]:
    model = mapping(raw.get("model"), "model")
    if not model.get("class_path"):
        raise MisconfigurationError(
            "model.class_path is missing; name the module that all runs train, UnlearningModule"
        )
    upstream = references(model)
    for name in sorted(upstream - stages):
        raise MisconfigurationError(
            f"model starts from stage:{name}, which is no stage{nearest(name, stages)}; "
            f"the stages are {', '.join(sorted(stages))}"
        )
    network = mapping(model.get("init_args"), "model.init_args").get("network")
    if references(network) != {CORRUPTED}:
        raise MisconfigurationError(
            f"model.init_args.network is {network!r}, and what is compared starts from the corrupted model; "
            f"set pretrained_model_name_or_path in it to stage:{CORRUPTED}"
        )
    objectives = _named(raw, "objectives")
    optimizers = _named(raw, "optimizers")
    for name, own in objectives.items():
        _check_keys(own, _OBJECTIVE_KEYS, f"objectives.{name}")
    rates = {name: _check_optimizer(name, own) for name, own in optimizers.items()}
    pairs = []
    for (objective, of_objective), (optimizer, of_optimizer) in product(objectives.items(), optimizers.items()):
        module = {key: value for key, value in of_optimizer.items() if key != "rates"}
        both = merged(merged(model, {"init_args": of_objective}), {"init_args": module})
        pairs.append(Pair(objective, optimizer, rates[optimizer], merged(fit, {"model": both})))
    names = [pair.name for pair in pairs] + sorted(stages)
    for name in names:
        if names.count(name) > 1:
            raise MisconfigurationError(f"{name!r} would stand in the tables twice; rename a stage or an objective")
    return tuple(pairs)


def _named(raw: Mapping[str, Any], section: str) -> dict[str, Mapping[str, Any]]:
    """What stands below a section, by name; entries that are null are left out, so that a recipe can be cut down."""
    found = {}
    for name, own in mapping(raw.get(section), section).items():
        check_name(name, f"an {section.removesuffix('s')}")
        if own is not None:
            found[str(name)] = mapping(own, f"{section}.{name}")
    if not found:
        raise MisconfigurationError(f"{section} is empty; name at least one {section.removesuffix('s')} to compare")
    return found


def _check_optimizer(name: str, own: Mapping[str, Any]) -> tuple[float, ...]:
    where = f"optimizers.{name}"
    for key in own:
        if key not in _OPTIMIZER_KEYS:
            raise MisconfigurationError(
                f"{where} sets {key}{nearest(str(key), _OPTIMIZER_KEYS)}, and an optimizer may set nothing but "
                f"{', '.join(_OPTIMIZER_KEYS)}; all else must be the same for every optimizer or the comparison would "
                f"not be fair: set it under fit, model or objectives"
            )
    optimizer = mapping(own.get("optimizer"), f"{where}.optimizer")
    if not optimizer.get("class_path"):
        raise MisconfigurationError(f"{where}.optimizer.class_path is missing; name the optimizer's class, as AdamW")
    if "lr" in mapping(optimizer.get("init_args"), f"{where}.optimizer.init_args"):
        raise MisconfigurationError(f"{where}.optimizer sets lr, which is tuned; put it among {where}.rates")
    return check_rates(own.get("rates"), f"{where}.rates")


def _tuning(own: Mapping[str, Any]) -> tuple[Criterion, int]:
    names = {"criterion": "name"} | {each.name: each.name for each in fields(Criterion) if each.name != "name"}
    _check_keys(own, (*names, "most_rates"), "tuning")
    criterion = Criterion(**{names[key]: value for key, value in own.items() if key in names})
    if not isinstance(criterion.name, str) or criterion.name not in CRITERIA:
        raise MisconfigurationError(
            f"tuning.criterion is {criterion.name!r}{nearest(str(criterion.name), CRITERIA)}; "
            f"the criteria are {', '.join(CRITERIA)}"
        )
    for key in ("control_tolerance", "control_penalty"):
        value = getattr(criterion, key)
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise MisconfigurationError(f"tuning.{key} must be a number >= 0, got {value!r}")
    most_rates = own.get("most_rates", MOST_RATES)
    if type(most_rates) is not int or most_rates < 2:
        raise MisconfigurationError(f"tuning.most_rates must be a whole number >= 2, got {most_rates!r}")
    return criterion, most_rates


def _check_keys(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in given:
        if key not in known:
            raise MisconfigurationError(
                f"{what} has no key {key!r}{nearest(str(key), known)}; its keys are {', '.join(known)}"
            )
