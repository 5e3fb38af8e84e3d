"""Processes that share out a study's steps, and what is told of them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import TypeAlias

from tokensieve.config import StudySettings
from tokensieve.errors import EnvironmentProblem, TokensieveError, first_line
from tokensieve.study.jobs import Job, jobs_of, ready, threads_of
from tokensieve.study.plan import Plan, Planner
from tokensieve.study.steps import Runner, Silent, Step

Prepare: TypeAlias = Callable[[], None]
"""Called in every worker before its first step; a function of a module, since it travels to another process."""

_LOOK_EVERY_S = 0.3


def run_jobs(plan: Plan, runner: Runner, workers: int, prepare: Prepare | None = None) -> None:
    """Make every missing step, each in one of several processes.

    Args:
        plan: the study's steps.
        runner: knows which of them are done, and whom to tell.
        workers: number of processes.
        prepare: called in each of them first.

    Raises:
        TokensieveError: what a step raised, with the step's name.
        EnvironmentProblem: a process was killed; what is finished stays.
    """
    steps = plan.steps()
    missing = [step for step in steps if runner.record(step) is None]
    kept = {step.key for step in missing}
    for step in steps:
        if step.key not in kept and (record := runner.record(step)) is not None:
            runner.watcher.finished(step, record.wall_s, cached=True)
    jobs = jobs_of(plan, missing)
    workers = max(1, min(workers, len(jobs)))
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(plan.settings, runner.root, threads_of(workers), prepare),
    )
    try:
        _dispatch(jobs, pool, runner, workers, len(steps) - len(missing), len(steps))
        pool.shutdown()
    finally:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()  # after an error or an interruption; a step that it was in is made again
        pool.shutdown(wait=False, cancel_futures=True)


def _dispatch(
    jobs: Sequence[Job], pool: ProcessPoolExecutor, runner: Runner, workers: int, done: int, total: int
) -> None:
    """Hand out jobs whose needs are met, and tell of every step that is finished.

    Args:
        jobs: what is to be made.
        pool: the processes.
        runner: knows which steps are done.
        workers: jobs at a time.
        done: steps that were finished before.
        total: all steps.
    """
    ended: set[int] = set()
    running: dict[int, Future[None]] = {}
    told: set[str] = set()

    def tell() -> None:
        for step in (step for number in running for step in jobs[number].steps):
            if step.key not in told and (record := runner.record(step)) is not None:
                told.add(step.key)
                runner.watcher.started(step, done + len(told), total)
                runner.watcher.finished(step, record.wall_s, cached=False)

    try:
        while len(ended) < len(jobs):
            for number in ready(jobs, ended, running):
                if len(running) < workers:
                    running[number] = pool.submit(_make, tuple(step.key for step in jobs[number].steps))
            finished, _ = wait(running.values(), timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            tell()
            for number in [number for number, future in running.items() if future in finished]:
                running[number].result()  # a broken pool is told with what is still in work
                del running[number]
                ended.add(number)
    except BrokenProcessPool:
        tell()
        unmade = [next((s for s in jobs[number].steps if runner.record(s) is None), None) for number in running]
        names = ", ".join(f"{step.verb} {step.label}" for step in unmade if step is not None)
        raise EnvironmentProblem(
            f"a worker was killed from outside; in work: {names or 'nothing'}",
            where=str(runner.root),
            fix="the same command goes on where it stopped; with fewer --workers where memory was short",
        ) from None


class _Worker:
    """State of a worker process: the study, and its planner with the models that it holds."""

    def __init__(self, settings: StudySettings, root: Path, threads: int) -> None:
        self._planner = Planner(settings, root)
        self._runner = Runner(root, Silent())
        self._threads = threads
        self._steps: dict[str, Step] = {}

    def make(self, keys: Sequence[str]) -> None:
        """Make steps by their keys, one after the other."""
        if not self._steps:
            import torch

            torch.set_num_threads(self._threads)
            self._steps = {step.key: step for step in self._planner.plan().steps()}
        for key in keys:
            if key not in self._steps:
                raise EnvironmentProblem("the data of the study changed while it ran", fix="run it again")
            self._make(self._steps[key])

    def _make(self, step: Step) -> None:
        name = f"{step.verb} {step.label}"
        try:
            self._runner.make(step)
        except TokensieveError as error:
            raise type(error)(f"{error.problem} (in {name})", where=error.where, fix=error.fix) from None
        except OSError:  # of a full disk, say: the command line has words for it
            raise
        except Exception as error:
            raise RuntimeError(f"{name}: {type(error).__name__}: {first_line(error)}") from error


_worker: _Worker | None = None
"""Of this process, where it is a worker."""


def _begin(settings: StudySettings, root: Path, threads: int, prepare: Prepare | None) -> None:
    global _worker
    signal.signal(signal.SIGINT, lambda *_: None)  # ctrl-C reaches every process; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()
    _worker = _Worker(settings, root, threads)


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on beside the next start of the same study."""
    if (parent := multiprocessing.parent_process()) is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _make(keys: tuple[str, ...]) -> None:
    if _worker is None:
        raise RuntimeError("no worker was begun in this process")
    _worker.make(keys)
