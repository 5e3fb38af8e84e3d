"""Processes that share out a study's steps, and what is told of them."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeAlias

from tokensieve.config import StudySettings
from tokensieve.errors import EnvironmentProblem, TokensieveError, first_line
from tokensieve.study.jobs import Job, jobs_of, ready, threads_of
from tokensieve.study.plan import Plan, Planner
from tokensieve.study.steps import Runner, Step

Prepare: TypeAlias = Callable[[], None]
"""Called in every worker before its first step; a function of a module, since it travels to another process."""

_LOOK_EVERY_S = 0.3
"""Seconds between two looks at the workers, and between two words of a worker about its step."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a worker's step is, by its key."""

    key: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Told:
    """A warning in a worker."""

    text: str
    category: type[Warning]
    filename: str
    line: int


News: TypeAlias = Advanced | Told


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
    context = multiprocessing.get_context("spawn")
    news: SimpleQueue[News] = context.SimpleQueue()
    pool = ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_begin,
        initargs=(plan.settings, runner.root, threads_of(workers), prepare, news),
    )
    desk = Desk(plan, runner, news, len(steps) - len(missing))
    try:
        _dispatch(jobs, pool, runner, workers, desk)
        pool.shutdown()
    finally:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()  # after an error or an interruption; a step that it was in is made again
        pool.shutdown(wait=False, cancel_futures=True)


class Desk:
    """Tells the watcher what goes on in the workers, step by step.

    Args:
        plan: the study's steps.
        runner: knows which of them are finished, and whom to tell.
        news: what the workers say.
        done: number of steps that were finished before.
    """

    def __init__(self, plan: Plan, runner: Runner, news: "SimpleQueue[News]", done: int) -> None:
        self._steps = {step.key: step for step in plan.steps()}
        self._runner = runner
        self._news = news
        self._done = done
        self._open: set[str] = set()
        self._told: set[str] = set()

    def read(self) -> None:
        """Pass on what has come since: how far steps are, and warnings."""
        while not self._news.empty():
            one = self._news.get()
            if isinstance(one, Told):
                warnings.showwarning(one.text, one.category, one.filename, one.line)
            elif one.key not in self._told:
                self._start(self._steps[one.key])
                self._runner.watcher.advanced(self._steps[one.key], one.done, one.total)

    def finish(self, steps: Iterable[Step]) -> None:
        """Tell of those steps that are finished and were not told of yet."""
        for step in steps:
            if step.key not in self._told and (record := self._runner.record(step)) is not None:
                self._start(step)
                self._told.add(step.key)
                self._runner.watcher.finished(step, record.wall_s, cached=False)

    def _start(self, step: Step) -> None:
        if step.key not in self._open:
            self._open.add(step.key)
            self._runner.watcher.started(step, self._done + len(self._open), len(self._steps))


def _dispatch(jobs: Sequence[Job], pool: ProcessPoolExecutor, runner: Runner, workers: int, desk: Desk) -> None:
    """Hand out jobs whose needs are met, and tell how they go.

    Args:
        jobs: what is to be made.
        pool: the processes.
        runner: knows which steps are done.
        workers: jobs at a time.
        desk: tells of the steps.
    """
    ended: set[int] = set()
    running: dict[int, Future[None]] = {}

    def tell() -> None:
        desk.read()
        desk.finish(step for number in running for step in jobs[number].steps)

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


class Reporter:
    """Watcher in a worker: says how far a step is, at its start and then a few times a second at most."""

    def __init__(self, news: "SimpleQueue[News]") -> None:
        self._news = news
        self._next = 0.0

    def started(self, step: Step, number: int, total: int) -> None:
        """Nothing: the parent counts the steps."""

    def advanced(self, step: Step, done: int, total: int) -> None:
        """See ``Watcher``."""
        if (now := time.monotonic()) >= self._next or done == 0:
            self._next = now + _LOOK_EVERY_S
            self._news.put(Advanced(step.key, done, total))

    def finished(self, step: Step, wall_s: float, *, cached: bool) -> None:
        """Nothing: the step's record says it."""


class _Worker:
    """State of a worker process: the study, and its planner with the models that it holds."""

    def __init__(self, settings: StudySettings, root: Path, threads: int, news: "SimpleQueue[News]") -> None:
        self._planner = Planner(settings, root)
        self._reporter = Reporter(news)
        self._runner = Runner(root, self._reporter)
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
        self._reporter.advanced(step, 0, 0)
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


def _begin(
    settings: StudySettings, root: Path, threads: int, prepare: Prepare | None, news: "SimpleQueue[News]"
) -> None:
    global _worker
    signal.signal(signal.SIGINT, lambda *_: None)  # ctrl-C reaches every process; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()
    warnings.showwarning = passed_on(news)
    _worker = _Worker(settings, root, threads, news)


def passed_on(news: "SimpleQueue[News]") -> Callable[..., None]:
    """A function for ``warnings.showwarning`` that leaves the printing to the parent: one process alone does it."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        news.put(Told(str(message), category, filename, lineno))

    return show


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on beside the next start of the same study."""
    if (parent := multiprocessing.parent_process()) is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _make(keys: tuple[str, ...]) -> None:
    if _worker is None:
        raise RuntimeError("no worker was begun in this process")
    _worker.make(keys)
