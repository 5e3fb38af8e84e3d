"""A study's steps in several processes: what may be made beside what, and who makes it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tokensieve.config import StudySettings
from tokensieve.errors import EnvironmentProblem, TokensieveError, first_line
from tokensieve.study.plan import Planner
from tokensieve.study.steps import Plan, Runner, Silent, Step

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

Prepare: TypeAlias = Callable[[], None]
"""Called in every worker before its first step; a function of a module, since it travels to another process."""

_LARGE = 50e6
"""Parameters from which one model keeps all cores busy."""
_LOOK_EVERY_S = 0.3


@dataclass(frozen=True, slots=True)
class Job:
    """Steps that one process makes one after the other.

    Attributes:
        steps: what is missing of a training run and of what follows it, so that its model stays loaded, or one step
            that several runs share.
        needs: numbers of the jobs that must be done before.
    """

    steps: tuple[Step, ...]
    needs: frozenset[int]


def jobs_of(plan: Plan, missing: Iterable[Step]) -> list[Job]:
    """The missing steps as jobs, each step in one of them, those that others need first.

    Args:
        plan: the study's steps.
        missing: those that are to be made.
    """
    left = {step.key: step for step in missing}
    chains: dict[str, list[Step]] = {}
    for run in (run for target in plan.targets for arm in target.arms for run in arm.runs):
        chains.setdefault(run.train.key, []).extend(run.steps())  # arms may differ in what follows the training alone
    chained = {step.key for chain in chains.values() for step in chain}
    parts: list[tuple[Step, ...]] = []
    for step in plan.steps():
        chain = chains.get(step.key, [step])
        parts.append(tuple(left.pop(link.key) for link in chain if link.key in left))
    parts = [part for part in parts if part]
    parts.sort(key=lambda part: part[0].key in chained)  # what several runs share comes first
    owner = {step.key: number for number, part in enumerate(parts) for step in part}
    jobs: list[Job] = []
    anchors: int | None = None
    for number, part in enumerate(parts):
        needs = {owner[need.key] for step in part for need in step.needs if need.key in owner} - {number}
        if part[0].verb == "anchors":  # they share candidates and pilots, which one at a time may make
            needs |= set() if anchors is None else {anchors}
            anchors = number
        jobs.append(Job(part, frozenset(needs)))
    return jobs


def makespan(jobs: Sequence[Job], seconds: Callable[[Step], float], workers: int) -> float:
    """Seconds until all jobs are done if each worker takes the next one that is ready."""
    lengths = [sum(map(seconds, job.steps)) for job in jobs]
    ends: dict[int, float] = {}
    running: dict[int, float] = {}
    now = 0.0
    while len(ends) < len(jobs):
        for number in _ready(jobs, ends, running):
            if len(running) < workers:
                running[number] = now + lengths[number]
        first = min(running, key=running.__getitem__)
        now = ends[first] = running.pop(first)
    return now


def default_workers(model: "LoadedModel") -> int:
    """One on a GPU and for a large model, else one a core."""
    small = model.model.num_parameters() < _LARGE
    return cores() if model.device.type == "cpu" and small else 1


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(workers: int) -> int:
    """Threads of each process: torch's own number in one, a share of the cores in each of several."""
    import torch

    return torch.get_num_threads() if workers == 1 else max(1, cores() // workers)


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
            for number in _ready(jobs, ended, running):
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


def _ready(jobs: Sequence[Job], ended: Iterable[int], running: Iterable[int]) -> Iterator[int]:
    """Numbers of the jobs that may begin, in their order."""
    done, taken = set(ended), {*ended, *running}
    return (number for number, job in enumerate(jobs) if number not in taken and job.needs <= done)


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
