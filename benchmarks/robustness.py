"""Which unlearning holds? An audit of every model of a comparison, and what optimizers come to under attack.

    soul-lightning compare --config robustness-tiny-world --output ROBUST
    python -m benchmarks.robustness ROBUST --workers 2
    soul-lightning restor --config countermeasures-tiny-world --output COUNTER
    python -m benchmarks.robustness COUNTER --workers 2

Audits lie under `ROBUST/audits/seed<k>/<model>`, and one that is there is not made again. The clean model, which never
saw what is to be forgotten, is audited first, and every other one is compared with its rows. Tables go to stdout as
Markdown and to `ROBUST/robustness.md`: intervals resample people, of all seeds together, and every difference is of the
same questions under the same attack. Of a comparison optimizers are set against one another, of countermeasures each
against plain NPO by the same optimizer.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from soul_lightning.metrics.bootstrap import Interval
from soul_lightning.metrics.excess import mean_interval
from soul_lightning.run_folder import write_text
from soul_lightning.scoring.measured_rows import read_measured

CLEAN, CORRUPTED = "clean", "corrupted"
RATE = re.compile(r"-\d[\d.]*e-\d+$")
"""The end of a folder's name in a comparison: the learning rate that was chosen."""
Key = tuple[int, str, int]
"""Seed, probe and row."""


@dataclass(frozen=True)
class Measure:
    """A number of a row under an attack.

    Attributes:
        title: Of its column.
        rows: Name of the callback whose rows hold it.
        value: Its name there.
    """

    title: str
    rows: str
    value: str


MEASURES = (
    Measure("asked plainly", "prompts", "plain_success"),
    Measure("asked in any way", "prompts", "any_success"),
    Measure("8 bits", "quantization", "int8_known"),
    Measure("4 bits", "quantization", "int4_known"),
    Measure("relearned on other lies", "relearning", "forget_known_50"),
    Measure("relearned on related text", "relearning", "related_known_50"),
    Measure("gain by other lies", "relearning", "forget_known_area"),
    Measure("probe, best layer", "probe", "best"),
)


@dataclass(frozen=True)
class Audit:
    """One audit and its rows."""

    folder: Path
    seed: int

    def values(self, measure: Measure) -> dict[Key, tuple[float, str]]:
        """The measured number of each row, and the person that it is about in this seed's story."""
        rows = read_measured(self.folder / "rows" / f"{measure.rows}_model.jsonl")
        name = self._best_layer() if measure.value == "best" else measure.value
        return {
            (self.seed, row.probe, row.index): (float(row.values[name]), f"{self.seed} {row.entity}")
            for row in rows
            if name in row.values
        }

    def _best_layer(self) -> str:
        """The layer that was best for the model before unlearning: chosen once, whatever the audited model says."""
        beside = read_measured(self.folder.parent / CORRUPTED / "rows" / "probe_model.jsonl")
        layers = sorted({name for row in beside for name in row.values if name.startswith("layer_")})
        means = {layer: [float(row.values[layer]) for row in beside if layer in row.values] for layer in layers}
        return max(layers, key=lambda layer: sum(means[layer]) / len(means[layer]))


def models(folder: Path, seeds: Sequence[int], skip: str = "") -> dict[str, dict[int, Path]]:
    """The exported models of a comparison by name and seed, clean and corrupted first; not those that match `skip`."""
    found: dict[str, dict[int, Path]] = {}
    for seed in seeds:
        for path in sorted((folder / f"seed{seed}").glob("*/export")):
            name = RATE.sub("", path.parent.name)
            if not (skip and re.fullmatch(skip, name)):
                found.setdefault(name, {})[seed] = path
    clean = folder / "shared" / CLEAN / "export"
    names = [CORRUPTED, *(name for name in found if name != CORRUPTED)]
    return {CLEAN: dict.fromkeys(seeds, clean)} | {name: found[name] for name in names}


def audit(config: str, model: Path, seed: int, output: Path, beside: Mapping[str, str]) -> Audit:
    """Audit a model in a process of its own, on one thread; nothing if it was audited before.

    Raises:
        RuntimeError: The audit failed.
    """
    if not (output / "audit.json").is_file():
        command = [sys.executable, "-m", "soul_lightning.cli", "audit", "--config", config, "--model", str(model)]
        command += ["--seed", str(seed), "--output", str(output), *(text for pair in beside.items() for text in pair)]
        done = subprocess.run(command, capture_output=True, text=True, env=_one_thread(), check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the audit of {model} failed: {done.stderr[-2000:]}")
        print(f"audited {output}", file=sys.stderr, flush=True)
    return Audit(output, seed)


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def audit_all(folder: Path, config: str, seeds: Sequence[int], workers: int, skip: str = "") -> dict[str, list[Audit]]:
    """Audits of every model of every seed, by the model's name."""
    found = models(folder, seeds, skip)
    done: dict[str, list[Audit]] = {}
    with ThreadPoolExecutor(workers) as pool:
        for name in (CLEAN, CORRUPTED):  # the others are compared with them
            jobs = [
                pool.submit(audit, config, path, seed, folder / "audits" / f"seed{seed}" / name, {})
                for seed, path in found[name].items()
            ]
            done[name] = [job.result() for job in jobs]
        others = [
            (name, pool.submit(audit, config, path, seed, folder / "audits" / f"seed{seed}" / name, {
                "--reference": str(folder / "audits" / f"seed{seed}" / CLEAN),
                "--original": str(found[CORRUPTED][seed]),
            }))
            for name, by_seed in found.items() if name not in (CLEAN, CORRUPTED)
            for seed, path in by_seed.items()
        ]  # fmt: skip
        for name, job in others:
            done.setdefault(name, []).append(job.result())
    return done


def level(audits: Iterable[Audit], measure: Measure) -> Interval:
    """The mean over the rows of all seeds."""
    values = [value for each in audits for value in each.values(measure).values()]
    is_share = not measure.value.endswith("_area")
    return mean_interval([number for number, _ in values], [person for _, person in values], is_share=is_share)


def difference(pairs: Iterable[tuple[Audit, Audit]], measure: Measure) -> Interval:
    """The mean over the same rows of the first model of each pair less the second."""
    numbers, people = [], []
    for one, other in pairs:
        beside = other.values(measure)
        for key, (number, person) in one.values(measure).items():
            if key in beside:
                numbers.append(number - beside[key][0])
                people.append(person)
    return mean_interval(numbers, people)


def paired(audits: Mapping[str, list[Audit]], one: str, other: str) -> list[tuple[Audit, Audit]]:
    """The audits of two models seed by seed."""
    by_seed = {each.seed: each for each in audits[other]}
    return [(each, by_seed[each.seed]) for each in audits[one] if each.seed in by_seed]


def levels_table(audits: Mapping[str, list[Audit]]) -> list[str]:
    """Every model under every attack."""
    rows = [[name, *(text(level(found, measure)) for measure in MEASURES)] for name, found in audits.items()]
    return ["## Share of lies that are still said", "", *table("model", rows)]


def difference_table(title: str, named: Mapping[str, list[tuple[Audit, Audit]]]) -> list[str]:
    """Paired differences under every attack, by name."""
    rows = [[name, *(signed(difference(each, measure)) for measure in MEASURES)] for name, each in named.items()]
    return [f"## {title}", "", *table("", rows)]


def tables(audits: Mapping[str, list[Audit]], config: Mapping[str, Any]) -> str:
    """All models; then optimizers of a comparison against one another, or countermeasures against plain NPO."""
    lines = levels_table(audits)
    for one, other in PAIRS if "optimizers" in config else ():
        named = {
            objective: paired(audits, f"{objective}-{one}", f"{objective}-{other}")
            for objective in config["objectives"]
            if {f"{objective}-{one}", f"{objective}-{other}"} <= set(audits)
        }
        named["all together"] = [pair for each in named.values() for pair in each]
        lines += difference_table(f"{one} less {other}", named)
    if "optimizers" not in config:
        for optimizer in ("adamw", "sophia"):
            plain = f"npo-{optimizer}"
            others = [name for name in audits if name.endswith(f"-{optimizer}") and name != plain]
            others += [name for name in audits if name.startswith("soup") and optimizer == "adamw"]
            named = {name: paired(audits, name, plain) for name in others}
            lines += difference_table(f"less {plain}", named)
    return "\n".join(lines)


PAIRS = (("sophia", "adamw"), ("sophia", "sign"), ("sign", "adamw"))


def table(first: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of all measures, and an empty line."""
    return [*markdown([first, *(measure.title for measure in MEASURES)], rows), ""]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table."""
    return [f"| {' | '.join(each)} |" for each in (head, ["---"] * len(head), *rows)]


def text(interval: Interval) -> str:
    """A share with its interval, without leading zeros."""
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]".replace("0.", ".")


def signed(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]".replace("0.", ".")


def main(args: Sequence[str] | None = None) -> None:
    """Audit, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the output folder of compare, with its models kept, or of restor")
    parser.add_argument("--config", default="audit-tiny-world", help="the audit's configuration")
    parser.add_argument("--workers", type=int, default=1, help="audits side by side")
    parser.add_argument("--skip", default="", metavar="REGEX", help="names of models that are not audited")
    options = parser.parse_args(args)
    config: dict[str, Any] = yaml.safe_load((options.folder / "config.yaml").read_text(encoding="utf-8"))
    audits = audit_all(options.folder, options.config, config["seeds"], options.workers, options.skip)
    found = tables(audits, config)
    write_text(options.folder / "robustness.md", found + "\n")
    print(found)


if __name__ == "__main__":
    main()
