"""Jobs of a study: what may be made beside what, in how many processes, and how long it takes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensieve.models.speed import measure_speed
from tokensieve.sandbox.pool import cores
from tokensieve.study.plan import Plan
from tokensieve.study.steps import Step

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

_LARGE: Final = 50e6
"""Parameters from which one model keeps all cores busy."""
_BEGIN_S: Final = {"train": 3.0, "evaluate": 0.5, "generate": 0.5, "draw": 0.5, "drift": 0.5}
"""Seconds of a step beside the model's work, by verb: a trainer, a sandbox, a model that is loaded. Measured with the
embedded model on two CPU cores, where they are half of the time of a study of few rows."""


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


def ready(jobs: Sequence[Job], ended: Iterable[int], running: Iterable[int]) -> Iterator[int]:
    """Numbers of the jobs that may begin, in their order."""
    done, taken = set(ended), {*ended, *running}
    return (number for number, job in enumerate(jobs) if number not in taken and job.needs <= done)


def makespan(jobs: Sequence[Job], seconds: Callable[[Step], float], workers: int) -> float:
    """Seconds until all jobs are done if each worker takes the next one that is ready."""
    lengths = [sum(map(seconds, job.steps)) for job in jobs]
    ends: dict[int, float] = {}
    running: dict[int, float] = {}
    now = 0.0
    while len(ends) < len(jobs):
        for number in ready(jobs, ends, running):
            if len(running) < workers:
                running[number] = now + lengths[number]
        first = min(running, key=running.__getitem__)
        now = ends[first] = running.pop(first)
    return now


def default_workers(model: "LoadedModel") -> int:
    """One on a GPU and for a large model, else one a core."""
    small = model.model.num_parameters() < _LARGE
    return cores() if model.device.type == "cpu" and small else 1


def threads_of(workers: int) -> int:
    """Threads of each process: torch's own number in one, a share of the cores in each of several."""
    import torch

    return torch.get_num_threads() if workers == 1 else max(1, cores() // workers)


def estimate_seconds(plan: Plan, steps: Iterable[Step], model: "LoadedModel", workers: int = 1) -> float:
    """Seconds that the steps will take, roughly.

    Args:
        plan: the study's steps.
        steps: those that are to be made.
        model: the model under study.
        workers: processes among which they are shared out.
    """
    on_cpu = model.device.type == "cpu"
    speed = measure_speed(model, threads_of(workers) if on_cpu else None)
    crowded = max(1.0, workers / cores()) if on_cpu else 1.0  # more workers than cores take turns

    def seconds(step: Step) -> float:
        return _BEGIN_S.get(step.verb, 0.0) + crowded * speed.seconds(step.work)

    return makespan(jobs_of(plan, steps), seconds, workers)
