"""`requests`: every run of the plan an ordinary `fit`, every model asked the same questions, one table, one plot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from soul_lightning.cli.request_config import KEYS, RequestsConfig, started_from, tokenizer_source
from soul_lightning.cli.request_plan import Plan, Planned, plan_requests
from soul_lightning.cli.request_questions import request_questions
from soul_lightning.cli.restoring import refuse_foreign
from soul_lightning.cli.stage_jobs import Done, Job, Jobs, open_jobs
from soul_lightning.cli.stage_runner import Asking, StageRunner, named
from soul_lightning.cli.stages import Stage, content_hash
from soul_lightning.cli.summary import versions
from soul_lightning.cli.terminal import emit, note, output_console
from soul_lightning.reports.figures import save_figure
from soul_lightning.reports.request_figure import request_figure
from soul_lightning.reports.request_states import Measured, RequestState, measure_state, request_records
from soul_lightning.reports.request_tables import definitions, request_sentences, request_table
from soul_lightning.reports.tables import Record, write_records_csv
from soul_lightning.run_folder import (
    CONFIG_NAME,
    SUMMARY_NAME,
    discarded_unless,
    new_run_folder,
    read_summary,
    write_summary,
    write_text,
)

CSV_NAME = "requests.csv"
FIGURE_NAME = "requests.png"


def run_requests(config: RequestsConfig, recipe: str, output: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Forget one request after another, ask after each, and show what stays forgotten and what stays.

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
    refuse_foreign(folder, KEYS, "methods")
    plan, runner = _checked(config, recipe, folder)
    work = _Work(config, plan, runner)
    emit("start", command="requests", recipe=recipe, run=str(folder))
    with discarded_unless(lambda: work.finished > 0, folder), open_jobs(runner, config.workers) as jobs:
        for seed in config.seeds:  # before anything is trained: data that cannot be cut or asked is found at once
            runner.probes(seed, tokenizer_source(config.stages[0]))
        write_text(folder / CONFIG_NAME, yaml.safe_dump(dict(config.raw), sort_keys=False, allow_unicode=True))
        states = work.run(jobs)
    for name in (SUMMARY_NAME, CSV_NAME, FIGURE_NAME):  # of an earlier run: they would stand beside other numbers
        (folder / name).unlink(missing_ok=True)
    records = _report(folder, states)
    summary = {
        **_numbers(records),
        "recipe": recipe,
        "recipe_hash": content_hash({key: value for key, value in config.raw.items() if key != "workers"}),
        "seeds": list(config.seeds),
        "requests": config.requests,
        "seconds": round(time.monotonic() - started, 3),
        "versions": versions(),
    }
    write_summary(folder, summary)
    return folder, summary


def check_requests(config: RequestsConfig, recipe: str) -> None:
    """Parse the configuration of every kind of run without training anything.

    Raises:
        MisconfigurationError: A key, a class or a value is wrong.
    """
    _checked(config, recipe, Path())


def _checked(config: RequestsConfig, recipe: str, folder: Path) -> tuple[Plan, StageRunner]:
    plan = plan_requests(config)
    asking = Asking.from_config(config.restoration)
    whole = config.cut(config.fit, request=config.requests)
    runner = StageRunner(whole, asking, folder, recipe, config.seeds[0], is_quiet=True, choose=request_questions)
    for stage in config.stages:
        with named(f"stage {stage.name}"):
            runner.check(stage)
    fits = {f"methods.{name}": own for name, own in config.methods.items()}
    if config.relearning:
        fits["relearning"] = config.relearning
    for name, own in fits.items():  # one of each kind: the runs of a kind differ in nothing but numbers
        with named(name):
            runner.check(Stage(name, started_from(config.cut(own, request=1), "stage:before"), None, False, ()))
    return plan, runner


class _Work:
    """The runs of one `requests`, and what became of them."""

    def __init__(self, config: RequestsConfig, plan: Plan, runner: StageRunner) -> None:
        self.config = config
        self.plan = plan
        self.runner = runner
        self.finished = 0
        self._done: dict[tuple[str, int], Done] = {}
        self._hashes: dict[int, dict[str, str]] = {seed: {} for seed in config.seeds}
        self._stages = {stage.name: stage for stage in (*config.stages, *plan.stages)}

    def run(self, jobs: Jobs) -> list[RequestState]:
        """Everything, what does not need one another side by side."""
        note(f"{len(self._stages) * len(self.config.seeds)} runs")
        for stage in self.config.stages:
            seeds = self.config.seeds
            for batch in (seeds[:1], seeds[1:]) if stage.shared else (seeds,):
                self._make(jobs, [(stage, seed) for seed in batch])
        left = list(self.plan.stages)
        while left:
            ready = [stage for stage in left if self._is_made(stage.upstream)]
            self._make(jobs, [(stage, seed) for stage in ready for seed in self.config.seeds])
            left = [stage for stage in left if stage not in ready]
        return [self._state(planned) for planned in self.plan.states]

    def _is_made(self, names: Iterable[str]) -> bool:
        return all((name, self.config.seeds[0]) in self._done for name in names)

    def _make(self, jobs: Jobs, runs: Sequence[tuple[Stage, int]]) -> None:
        for done in jobs.done([self._job(stage, seed) for stage, seed in runs], self._on_done):
            self._done[done.job.stage.name, done.job.seed] = done

    def _job(self, stage: Stage, seed: int) -> Job:
        models = {name: self.runner.model_path(self._stages[name], seed) for name in stage.upstream}
        stage_hash = self.runner.hash(stage, seed, self._hashes[seed])
        self._hashes[seed][stage.name] = stage_hash
        return Job(stage, seed, stage_hash, models)

    def _on_done(self, done: Done) -> None:
        self.finished += 1
        total = len(self._stages) * len(self.config.seeds)
        done.tell(self.finished, total)
        took = "reused" if done.was_reused else f"{done.seconds:.1f} s"
        note(f"[{self.finished}/{total}] {done.job.label}: {took}")

    def _state(self, planned: Planned) -> RequestState:
        seeds = self.config.seeds
        has_cost = planned.kind not in ("before", "start")
        return RequestState(
            method=planned.method,
            number=planned.number,
            event=planned.event,
            kind=planned.kind,
            rows=[row for seed in seeds for row in self._done[planned.stage, seed].rows],
            forgotten=planned.forgotten,
            withdrawn=planned.withdrawn,
            changed=planned.changed,
            optimizer_steps=self._cost(planned, "optimizer_steps") if has_cost else None,
            cpu_seconds=self._cost(planned, "cpu_seconds") if has_cost else None,
        )

    def _cost(self, planned: Planned, name: str) -> float:
        """The sum over the runs that were made for it, the mean over the seeds."""
        folders = [
            self.runner.run_folder(self._stages[made], seed) for made in planned.made for seed in self.config.seeds
        ]
        costs = [float((read_summary(folder) or {}).get(name, 0.0)) for folder in folders]
        return sum(costs) / len(self.config.seeds)


def _report(folder: Path, states: Sequence[RequestState]) -> list[Record]:
    """Show the tables, write CSV and plot."""
    start = next(state for state in states if state.kind == "start")
    measured = [measure_state(state, start.rows) for state in states]
    records = request_records(states, measured)
    write_records_csv(folder / CSV_NAME, records)
    save_figure(request_figure(states, measured), folder / FIGURE_NAME)
    console = output_console()
    pairs = list(zip(states, measured, strict=True))
    for method in dict.fromkeys(state.method for state in states if state.method):
        for title, kinds in ((method, ("forget", "withdraw", "beside")), (f"{method}, at once", ("size",))):
            shown = [pair for pair in pairs if pair[0].method == method and pair[0].kind in kinds]
            if shown:
                beside = [pair for pair in pairs if not pair[0].method]
                own_states, own = zip(*beside, *shown, strict=True)
                console.print(request_table(title, own_states, own, console.width, each="size" not in kinds))
    of_start: dict[str, Measured] = measured[states.index(start)]
    for sentence in (*definitions(of_start), *request_sentences(states, measured)):
        console.print(sentence, markup=False, highlight=False)
    return records


def _numbers(records: Sequence[Record]) -> dict[str, Any]:
    """Flat names: `npo/3 forget 3/request 1/answered`; what stands in every record of a state, once."""
    numbers: dict[str, Any] = {}
    for record in records:
        method = record["method"] or "before"
        place = (
            f"{record['number']} {record['event']}"
            if record["method"] and record["kind"] != "size"
            else record["event"]
        )
        for name in ("answered", "answered_low", "answered_high", "true", "change"):
            if record[name] is not None:
                numbers[f"{method}/{place}/{record['group']}/{name}"] = record[name]
        for name in ("optimizer_steps", "cpu_seconds"):
            if record[name] is not None:
                numbers[f"{method}/{place}/{name}"] = record[name]
    return numbers
