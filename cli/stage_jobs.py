"""Independent runs one after another or side by side: the same results for any number of processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from soul_lightning.cli.stage_runner import StageRunner, named
from soul_lightning.cli.stages import Stage
from soul_lightning.cli.terminal import emit, is_quiet, silence
from soul_lightning.exceptions import MisconfigurationError, TrainingDivergedError
from soul_lightning.run_folder import read_summary, write_summary
from soul_lightning.scoring.answers import AnswerRow


@dataclass(frozen=True)
class Job:
    """One stage for one seed.

    Attributes:
        stage: What is run.
        seed: Its seed.
        stage_hash: What its model comes from.
        models: Model folders of the stages that it starts from.
        keeps_model: Whether the weights stay after the questions were answered.
        may_diverge: Whether a run that diverges is a result, or an error.
    """

    stage: Stage
    seed: int
    stage_hash: str
    models: Mapping[str, str]
    keeps_model: bool = True
    may_diverge: bool = False

    @property
    def label(self) -> str:
        """What it is called in notes and errors."""
        return f"{self.stage.name}, seed {self.seed}"


@dataclass(frozen=True)
class Done:
    """What became of a job.

    Attributes:
        job: The job.
        rows: The model's answers; none where the run diverged.
        seconds: What it took.
        was_reused: Whether everything was there.
        steps: Optimizer steps that were taken; none for a model that was taken as it is.
        skipped_steps: Steps that were tried, their rows seen, and not taken, because something was not finite.
        training_rows: Rows that the loss read; none where it was not counted.
        curvature_passes: Passes of the curvature estimator; none without one.
    """

    job: Job
    rows: Sequence[AnswerRow]
    seconds: float
    was_reused: bool
    steps: int | None
    skipped_steps: int = 0
    training_rows: int | None = None
    curvature_passes: int | None = None

    @property
    def diverged(self) -> bool:
        """Whether the run ended early, or at weights that are of no use."""
        return not self.rows

    def tell(self, finished: int, total: int) -> None:
        """The event `run`.

        Args:
            finished: How many runs are done, this one included.
            total: How many there are.
        """
        emit(
            "run",
            name=self.job.stage.name,
            seed=self.job.seed,
            number=finished,
            of=total,
            reused=self.was_reused,
            diverged=self.diverged,
            steps=self.steps,
            run_seconds=round(self.seconds, 3),
        )


def do(runner: StageRunner, job: Job) -> Done:
    """Make the model of a job and ask it, or find that both was done before.

    Raises:
        MisconfigurationError: Something in the stage has to be mended.
        TrainingDivergedError: The run diverged, and must not.
    """
    started = time.monotonic()
    folder = runner.run_folder(job.stage, job.seed)
    with named(job.label):
        rows = _known(runner, job)
        was_reused = rows is not None
        if rows is None:
            rows = _fresh(runner, job)
    summary = read_summary(folder) or {}
    if not job.keeps_model:
        shutil.rmtree(Path(runner.model_path(job.stage, job.seed)), ignore_errors=True)
    return Done(
        job,
        rows,
        time.monotonic() - started,
        was_reused,
        summary.get("optimizer_steps"),
        _count(summary, "train/skipped_steps") or 0,
        _count(summary, "train/rows"),
        _count(summary, "curvature/passes"),
    )


def _count(summary: Mapping[str, Any], name: str) -> int | None:
    value = summary.get(name)
    return int(value) if value is not None else None


def _known(runner: StageRunner, job: Job) -> list[AnswerRow] | None:
    """What an earlier run of the command found; none where something is missing."""
    summary = read_summary(runner.run_folder(job.stage, job.seed)) or {}
    if job.may_diverge and summary.get("diverged_hash") == job.stage_hash:
        return []
    model = runner.model_path(job.stage, job.seed)
    is_ready = summary.get("stage_hash") == job.stage_hash and (Path(model).is_dir() or not job.keeps_model)
    if job.stage.pretrained is None and not is_ready:
        return None
    tokenizer_folder = next(iter(job.models.values()), model)
    probes = runner.probes(job.seed, tokenizer_folder)
    return runner.known_answers(job.stage, job.seed, job.stage_hash, probes)


def _fresh(runner: StageRunner, job: Job) -> list[AnswerRow]:
    try:
        model = runner.model(job.stage, job.seed, job.models, job.stage_hash, job.label)
        if job.may_diverge:
            _check_end(runner.run_folder(job.stage, job.seed), Path(model))
    except TrainingDivergedError as error:
        if not job.may_diverge:
            raise TrainingDivergedError(f"{job.label}: {error}") from error
        write_summary(runner.run_folder(job.stage, job.seed), {"diverged_hash": job.stage_hash, "diverged": str(error)})
        return []
    probes = runner.probes(job.seed, next(iter(job.models.values()), model))
    return runner.answers(job.stage, job.seed, model, job.stage_hash, probes, job.label)


def _check_end(folder: Path, model: Path) -> None:
    """Refuse a run that went on to its end and diverged all the same.

    Args:
        folder: The run folder.
        model: The folder of its model.

    Raises:
        TrainingDivergedError: Its last step was skipped, or its weights are not finite.
    """
    if (read_summary(folder) or {}).get("train/skipped_in_a_row"):
        raise TrainingDivergedError("the last optimizer step had a non-finite loss or gradient")
    for path in sorted(model.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # no mapping, it cannot be iterated over
                if not bool(torch.isfinite(weights.get_tensor(name)).all()):
                    raise TrainingDivergedError(f"the weights {name} are not finite")


class Jobs:
    """Does jobs in this process, or in others of one thread each.

    With `workers` every run has the same one thread and a process of its own kind, so that 1 and 8 of them give the
    same numbers.

    Args:
        runner: Does one job.
        workers: Processes; none for this one.
    """

    def __init__(self, runner: StageRunner, workers: int | None) -> None:
        self._runner = runner
        self._before = set(multiprocessing.active_children())
        self._pool = (
            ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (runner, is_quiet()))
            if workers is not None
            else None
        )

    def done(self, jobs: Sequence[Job], on_done: Callable[[Done], Any]) -> list[Done]:
        """Do independent jobs.

        Args:
            jobs: In any order.
            on_done: Is told each as soon as it is done.

        Returns:
            What became of each, in the order of `jobs`.
        """
        if self._pool is None:
            finished = []
            for job in jobs:
                with redirect_stdout(sys.stderr):
                    finished.append(do(self._runner, job))
                on_done(finished[-1])
            return finished
        with _interrupts_ignored():  # submitting starts processes, which inherit it
            futures: list[Future[Done]] = [self._pool.submit(_do_in_worker, job) for job in jobs]
        try:
            for future in as_completed(futures):
                on_done(future.result())
        except BrokenProcessPool as error:
            raise MisconfigurationError(
                "a worker process was ended from outside, for want of memory perhaps; set workers lower and repeat the "
                "command: finished runs are reused"
            ) from error
        return [future.result() for future in futures]

    def close(self, *, at_once: bool = False) -> None:
        """Drop what has not begun, and wait for what has.

        Args:
            at_once: End what has begun, too; files are whole or not there whenever it is ended.
        """
        if self._pool is None:
            return
        if at_once:
            for process in self._workers():
                process.kill()  # lightning would take a SIGTERM for a request to end after the next batch
        self._pool.shutdown(cancel_futures=True)

    def _workers(self) -> set[BaseProcess]:
        return set(multiprocessing.active_children()) - self._before


@contextmanager
def open_jobs(runner: StageRunner, workers: int | None) -> Iterator[Jobs]:
    """`Jobs` whose processes end with the block, whatever happens in it."""
    jobs = Jobs(runner, workers)
    try:
        yield jobs
    except (KeyboardInterrupt, SystemExit):
        jobs.close(at_once=True)
        raise
    finally:
        jobs.close()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C goes to every process of the terminal, and this one ends the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_worker_runner: StageRunner


def _start_worker(runner: StageRunner, quiet: bool) -> None:
    global _worker_runner
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    sys.stdout = sys.stderr  # what stands on stdout is the command's result
    if quiet:
        silence(ExitStack())
    _worker_runner = runner


def _end_with_parent() -> None:
    """A worker whose main process was killed would go on, and fill the folder that the next command works in."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do_in_worker(job: Job) -> Done:
    return do(_worker_runner, job)
