"""`compare`: rates chosen on tuning seeds, then runs at these rates on the reported seeds; each an ordinary `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from soul_lightning.cli.bars import timing
from soul_lightning.cli.comparison_config import CLEAN, KEYS, CompareConfig, Pair, experiment_hash
from soul_lightning.cli.comparison_files import FILE_NAMES, write_grid
from soul_lightning.cli.rate_tuning import (
    DIVERGED,
    Judgement,
    Shares,
    TriedRate,
    best_rate,
    is_at_edge,
    is_close_call,
    mean_judgement,
    next_rate,
)
from soul_lightning.cli.restoring import refuse_foreign
from soul_lightning.cli.stage_jobs import Done, Job, Jobs, open_jobs
from soul_lightning.cli.stage_runner import MARK_NAME, Asking, StageRunner, named
from soul_lightning.cli.stages import Stage
from soul_lightning.cli.summary import versions
from soul_lightning.cli.terminal import emit, note
from soul_lightning.exceptions import MisconfigurationError
from soul_lightning.reports.grid import TunedPair, rate_text
from soul_lightning.run_folder import (
    CONFIG_NAME,
    SUMMARY_NAME,
    discarded_unless,
    new_run_folder,
    write_summary,
    write_text,
)
from soul_lightning.scoring.answers import AnswerRow


def compare(config: CompareConfig, recipe: str, output: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Make the stages, choose every pair's rate, run every pair at it, compare.

    Args:
        config: What to do.
        recipe: What the run is called by.
        output: The output folder; that of an earlier run is continued, none makes a new one.

    Returns:
        The output folder and what stands in its `summary.json`.

    Raises:
        MisconfigurationError: Something has to be mended; no new folder stays behind if no run was finished.
    """
    started = time.monotonic()
    folder = output or new_run_folder(recipe)
    refuse_foreign(folder, KEYS, "optimizers")
    asking = Asking.from_config(config.restoration)
    runner = StageRunner(config.fit, asking, folder, recipe, config.seeds[0], is_quiet=True)
    check_runs(config, runner)
    emit("start", command="compare", recipe=recipe, run=str(folder))
    progress = _Progress(config)
    with discarded_unless(lambda: _has_results(folder), folder), open_jobs(runner, config.workers) as jobs:
        write_text(folder / CONFIG_NAME, yaml.safe_dump(dict(config.raw), sort_keys=False, allow_unicode=True))
        found = _Grid(config, runner, jobs, progress).run()
    for name in FILE_NAMES:  # of an earlier run: were one of them to stay, it would stand beside other numbers
        (folder / name).unlink(missing_ok=True)
    numbers = write_grid(folder, config, found, recipe)
    summary = numbers | {
        "recipe": recipe,
        "recipe_hash": experiment_hash(config.raw),
        "seeds": list(config.seeds),
        "tuning_seeds": list(config.tuning_seeds),
        "criterion": config.criterion.sentence,
        "optimizer_steps_per_run": found.steps,
        "runs": progress.finished,
        "seconds": round(time.monotonic() - started, 3),
        "versions": versions(),
    }
    write_summary(folder, summary)
    return folder, summary


def _has_results(folder: Path) -> bool:
    """Whether any run was finished, here or in a worker that was not heard of yet."""
    return any(next(folder.glob(f"*/*/{name}"), None) for name in (SUMMARY_NAME, MARK_NAME))


def check_comparison(config: CompareConfig, recipe: str) -> None:
    """Parse the configuration of every stage, every objective and every optimizer without training anything.

    Raises:
        MisconfigurationError: A key, a class or a value is wrong.
    """
    asking = Asking.from_config(config.restoration)
    check_runs(config, StageRunner(config.fit, asking, Path(), recipe, config.seeds[0]))


def check_runs(config: CompareConfig, runner: StageRunner) -> None:
    """Parse the configuration of every stage, every objective and every optimizer, each once."""
    for stage in config.stages:
        with named(f"stage {stage.name}"):
            runner.check(stage)
    first = config.pairs[0]
    for pair in config.pairs:
        if first.objective != pair.objective and first.optimizer != pair.optimizer:
            continue
        with named(f"objective {pair.objective}, optimizer {pair.optimizer}"):
            runner.check(pair.at(pair.rates[0]))


@dataclass
class Found:
    """What the runs came to.

    Attributes:
        rows: The answers of every stage and every pair over the reported seeds; none of a pair that diverged on one.
        pairs: What was chosen, by pair.
        tried: Every rate that was tried, in order.
        steps: Optimizer steps of every pair's run.
    """

    rows: dict[str, list[AnswerRow]] = field(default_factory=dict)
    pairs: dict[str, TunedPair] = field(default_factory=dict)
    tried: list[TriedRate] = field(default_factory=list)
    steps: int = 0


class _Grid:
    """The runs of one `compare`, in the order in which they need one another."""

    def __init__(self, config: CompareConfig, runner: StageRunner, jobs: Jobs, progress: _Progress) -> None:
        self.config = config
        self.runner = runner
        self.jobs = jobs
        self.progress = progress
        self.found = Found()
        self._hashes: dict[int, dict[str, str]] = {seed: {} for seed in (*config.seeds, *config.tuning_seeds)}
        self._clean: dict[int, Shares] = {}
        self._budgets: set[int] = set()

    def run(self) -> Found:
        """Everything."""
        for stage in self.config.stages:
            self._make(stage)
        judged = self._tune()
        for pair in self.config.pairs:
            rate = best_rate(judged[pair.name])
            if judged[pair.name][rate] == DIVERGED:
                raise MisconfigurationError(
                    f"{pair.name} diverged on the tuning seeds at every rate from {rate_text(min(judged[pair.name]))} "
                    f"to {rate_text(max(judged[pair.name]))}; give optimizers.{pair.optimizer}.rates lower ones"
                )
            facts = sum(self._clean[seed].facts for seed in self.config.tuning_seeds)
            self.found.pairs[pair.name] = TunedPair(
                pair.objective,
                pair.optimizer,
                rate,
                is_at_edge(judged[pair.name]),
                len(judged[pair.name]),
                is_close_call(judged[pair.name], facts),
            )
        self._report()
        return self.found

    def _make(self, stage: Stage) -> None:
        """A stage for every seed that needs it; one that all seeds share first for one of them."""
        tuning = self.config.tuning_seeds if stage in self.config.tuning_stages else ()
        seeds = (*self.config.seeds, *tuning)
        batches = [seeds[:1], seeds[1:]] if stage.shared else [seeds]
        finished = [done for batch in batches for done in self._done([self._job(stage, seed) for seed in batch])]
        for done in finished:
            seed = done.job.seed
            self._hashes[seed][stage.name] = done.job.stage_hash
            if stage.name == CLEAN:
                self._clean[seed] = Shares.of(done.rows)
            if seed in self.config.seeds:
                self.found.rows.setdefault(stage.name, []).extend(done.rows)

    def _job(self, stage: Stage, seed: int) -> Job:
        upstream = [each for each in self.config.stages if each.name in stage.upstream]
        models = {each.name: self.runner.model_path(each, seed) for each in upstream}
        return Job(stage, seed, self.runner.hash(stage, seed, self._hashes[seed]), models)

    def _pair_job(self, pair: Pair, rate: float, seed: int) -> Job:
        job = self._job(pair.at(rate), seed)
        return replace(job, keeps_model=self.config.keep_models, may_diverge=True)

    def _tune(self) -> Mapping[str, dict[float, Judgement]]:
        """Every pair at every rate of its grid on the tuning seeds, then beyond the edges at which the best are."""
        judged: dict[str, dict[float, Judgement]] = {pair.name: {} for pair in self.config.pairs}
        pending = [(pair, rate) for pair in self.config.pairs for rate in pair.rates]
        while pending:
            seeds = self.config.tuning_seeds
            jobs = [self._pair_job(pair, rate, seed) for pair, rate in pending for seed in seeds]
            finished = self._done(jobs)
            for number, (pair, rate) in enumerate(pending):
                own = finished[number * len(seeds) : (number + 1) * len(seeds)]
                judged[pair.name][rate] = self._judge(pair, rate, own)
            pending = [
                (pair, beyond)
                for pair in self.config.pairs
                if (beyond := next_rate(judged[pair.name], self.config.most_rates)) is not None
            ]
            self.progress.total += len(pending) * len(seeds)
        return judged

    def _judge(self, pair: Pair, rate: float, finished: Sequence[Done]) -> Judgement:
        """The mean over the tuning seeds; a rate that diverges on one of them is worse than any that does not."""
        shares = [None if done.diverged else Shares.of(done.rows) for done in finished]
        judgements = [
            DIVERGED if own is None else self.config.criterion(own, self._clean[done.job.seed])
            for own, done in zip(shares, finished, strict=True)
        ]
        mean = mean_judgement(judgements)
        values = tuple(value if math.isfinite(value) else None for value, _ in judgements)
        extends = rate not in pair.rates
        tried = TriedRate(pair.objective, pair.optimizer, rate, extends, mean[0], tuple(shares), values)
        self.found.tried.append(tried)
        return mean

    def _report(self) -> None:
        """Every pair at its chosen rate on the reported seeds; one that diverges on any of them has no numbers."""
        rates = {name: pair.rate for name, pair in self.found.pairs.items()}
        runs = [(pair, seed) for pair in self.config.pairs for seed in self.config.seeds]
        finished = self._done([self._pair_job(pair, rates[pair.name], seed) for pair, seed in runs])
        for pair in self.config.pairs:
            own = [done for (each, _), done in zip(runs, finished, strict=True) if each is pair]
            diverged = sum(done.diverged for done in own)
            self.found.pairs[pair.name] = replace(
                self.found.pairs[pair.name],
                diverged_seeds=diverged,
                training_rows=_mean([done.training_rows for done in own if not done.diverged]),
                curvature_passes=_mean([done.curvature_passes for done in own if not done.diverged]),
            )
            if not diverged:
                self.found.rows[pair.name] = [row for done in own for row in done.rows]

    def _done(self, jobs: Sequence[Job]) -> list[Done]:
        return self.jobs.done(jobs, self._on_done)

    def _on_done(self, done: Done) -> None:
        self.progress(done)
        is_pair = all(done.job.stage.name != stage.name for stage in self.config.stages)
        if is_pair and done.steps is not None and not done.diverged:
            self._same_budget(done.job.label, done.steps, done.skipped_steps)

    def _same_budget(self, label: str, taken: int, skipped: int) -> None:
        """Refuse a run that was shorter than the others.

        An epoch counts the steps that were skipped, `max_steps` does not: one of the two numbers is the same for all.
        """
        shared = self._budgets & {taken, taken + skipped} if self._budgets else {taken, taken + skipped}
        if not shared:
            raise MisconfigurationError(
                f"{label} took {taken + skipped} optimizer steps and another run {max(self._budgets)}, so that their "
                f"budgets differ; take out of fit.trainer whatever ends a run early"
            )
        self._budgets = shared
        self.found.steps = max(shared)


def _mean(counts: Sequence[int | None]) -> float | None:
    """The mean of what was counted; a whole number as one."""
    known = [count for count in counts if count is not None]
    mean = sum(known) / len(known) if known else None
    return int(mean) if mean is not None and mean == int(mean) else mean


class _Progress:
    """A line a run: which, what it came to, how long all of it will take."""

    def __init__(self, config: CompareConfig) -> None:
        tuned, reported = len(config.tuning_seeds), len(config.seeds)
        self.total = len(config.stages) * reported + len(config.tuning_stages) * tuned
        self.total += sum(len(pair.rates) * tuned + reported for pair in config.pairs)
        self.finished = 0
        self._workers = config.workers or 1
        self._seconds: list[float] = []
        self._stages = {stage.name for stage in config.stages}
        if config.stages:
            note(f"{self.total} runs; a grid whose best rate is at its edge is extended")

    def __call__(self, done: Done) -> None:
        """One run more."""
        self.finished += 1
        done.tell(self.finished, self.total)
        if not done.was_reused and done.job.stage.name not in self._stages:
            self._seconds.append(done.seconds)  # of the runs that are nearly all of them
        left = None
        if self._seconds:
            left = sum(self._seconds) / len(self._seconds) * (self.total - self.finished) / self._workers
        took = "reused" if done.was_reused else f"{done.seconds:.1f} s"
        parts = [f"[{self.finished}/{self.total}] {done.job.label}: {_outcome(done)}", took, timing(None, left)]
        note(", ".join(part for part in parts if part))


def _outcome(done: Done) -> str:
    if done.diverged:
        return "diverged"
    shares = Shares.of(done.rows)
    control = f" control {shares.control:.2f}" if shares.control is not None else ""
    return f"true {shares.true:.2f} false {shares.false:.2f}{control}"
