"""Target improvement and backward transfer, with their intervals.

Definitions as in paper section 4 (Wu et al., arXiv 2501.14315): ``TI = 100 (after / before - 1)`` on the target,
``BWT = 100 mean (after / before - 1)`` over the other tasks. Both in percent; higher is better.

Intervals are percentiles of a bootstrap in which two things are drawn anew: the problems of each task, the same ones
for the base and for every arm, and the training seeds, S - 1 of S, which gives the mean over seeds its unbiased
variance (Rao and Wu, JASA 83, 1988; both at once is the pigeonhole bootstrap of Owen, Ann. Appl. Stat. 1, 2007). Known
limits: with fewer than about five seeds the interval is too narrow where the seeds are what varies, and where every
problem came out alike it has no width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.metrics.intervals import BOOTSTRAP_DRAWS, Estimate, estimate, resampled_means, seed_weights
from tokensieve.types import BoolArray

Values: TypeAlias = BoolArray | NDArray[np.float64]
"""One value a problem: correct or not, or the share of its answers that are."""
Flags: TypeAlias = Mapping[str, Values]
"""Task to one value a problem: correct or not, or the share of its answers that are; the same problems in the same
order wherever two are compared."""
_Replicates: TypeAlias = dict[str, NDArray[np.float64]]
"""Task to accuracy, a fraction, one value a bootstrap replicate."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One training run against its base model.

    Attributes:
        ti: target improvement in percent; undefined where the base solves none of the target's problems.
        ti_points: change on the target in percentage points; always defined.
        bwt: backward transfer in percent; undefined where no other task has a base above 0.
        dropped_tasks: tasks left out of BWT since the base solves none of their problems, or is not scored on them.
    """

    ti: Estimate
    ti_points: Estimate
    bwt: Estimate
    dropped_tasks: tuple[str, ...]


def target_improvement(
    before: float | Mapping[str, float], after: float | Mapping[str, float], target: str | None = None
) -> float:
    """Change of the target's accuracy relative to the base, in percent; NaN where the base is 0.

    Args:
        before: the base model's accuracy on the target, or a mapping of task to accuracy.
        after: the same after training.
        target: the target's name; needed where a mapping holds more than one task.

    Raises:
        InputError: a mapping without the target.
    """
    base, tuned = _of(before, target), _of(after, target)
    return 100 * (tuned / base - 1) if base > 0 else math.nan


def backward_transfer(before: Mapping[str, float], after: Mapping[str, float], target: str) -> float:
    """Mean relative change of accuracy over the tasks other than the target, in percent.

    Tasks whose base is 0 or NaN have no relative change and are left out (``undefined_tasks`` names them); NaN where
    none is left.

    Raises:
        InputError: a task of ``before`` is missing in ``after``.
    """
    others = [task for task in before if task != target and before[task] > 0]
    changes = [_of(after, task) / before[task] - 1 for task in others]
    return 100 * sum(changes) / len(changes) if changes else math.nan


def undefined_tasks(before: Mapping[str, float], target: str) -> tuple[str, ...]:
    """Tasks other than the target that cannot count in BWT: the base solves nothing, or is not scored (NaN)."""
    return tuple(task for task in before if task != target and not before[task] > 0)


def forgetting(
    before: Flags,
    after: Sequence[Flags],
    target: str,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> Forgetting:
    """TI and BWT with intervals by a paired bootstrap over problems, and over seeds where there are several.

    Problems are drawn within each task, the same ones before and after, so that a problem's difficulty cancels. An
    interval depends on the answers and the bootstrap's seed only: not on the order of problems or tasks, nor on what
    else was evaluated. Where more replicates have an undefined ratio (a base of 0) than lie beyond one end of the
    interval, there is no interval.

    Args:
        before: the base model's answers.
        after: the answers after training; one mapping a training seed.
        target: the task that was trained.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the intervals.

    Raises:
        InputError: no target, no run, no problems, or problems or tasks that do not pair up.
    """
    replicates, arms = _replicates(before, [after], target, seed, draws)
    base, tuned, drawn = _means(before), _mean_over_runs(before, after), arms[0]
    return Forgetting(
        ti=estimate(target_improvement(base, tuned, target), _percent(replicates[target], drawn[target]), level),
        ti_points=estimate(100 * (tuned[target] - base[target]), 100 * (drawn[target] - replicates[target]), level),
        bwt=estimate(backward_transfer(base, tuned, target), _transfer(before, replicates, drawn, target), level),
        dropped_tasks=undefined_tasks(base, target),
    )


def difference(
    before: Flags,
    arm: Sequence[Flags],
    reference: Sequence[Flags],
    target: str,
    *,
    reference_before: Flags | None = None,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> tuple[Estimate, Estimate]:
    """An arm minus a reference arm on the same resampled problems: the target in points, and BWT in percent.

    The same draw of problems serves both arms, and the same draw of seeds where both have as many, so that what they
    share cancels.

    Args:
        before: as in ``forgetting``, and so are ``target``, ``seed``, ``draws`` and ``level``.
        arm: the arm's runs.
        reference: the reference's runs.
        target: the task that was trained.
        reference_before: answers before the reference's training, where it started from another model.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the intervals.

    Raises:
        InputError: as ``forgetting``.
    """
    runs = [arm, reference] if reference_before is None else [arm, reference, [reference_before]]
    replicates, (ours, theirs, *started) = _replicates(before, runs, target, seed, draws)
    start, started_from = (before, replicates) if reference_before is None else (reference_before, started[0])
    base, tuned, other = _means(before), _mean_over_runs(before, arm), _mean_over_runs(before, reference)
    bwt = backward_transfer(base, tuned, target) - backward_transfer(_means(start), other, target)
    with np.errstate(invalid="ignore"):  # infinite less infinite is NaN, and counts as undefined
        bwts = _transfer(before, replicates, ours, target) - _transfer(start, started_from, theirs, target)
    return (
        estimate(100 * (tuned[target] - other[target]), 100 * (ours[target] - theirs[target]), level),
        estimate(bwt, bwts, level),
    )


def best_within(
    before: Flags,
    settings: Sequence[Sequence[Flags]],
    target: str,
    losses: Sequence[float],
    validation: Sequence[Sequence[Values]] | None = None,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> list[tuple[int | None, Estimate]]:
    """An arm's accuracy on the target at its best setting whose BWT is not below minus each of the losses.

    The best is chosen on the target's validation problems where they are given, else on the problems that measure it.
    The choice is made anew in every replicate of the bootstrap, which draws the validation problems too, so that the
    interval takes it into account. Where no setting keeps enough, it is the base, which loses nothing. A setting that
    is not scored (NaN) is never the best.

    Args:
        before: as in ``forgetting``, and so are ``target``, ``seed``, ``draws`` and ``level``.
        settings: the runs of each setting.
        target: the task that was trained.
        losses: most that the other tasks may lose, in percent.
        validation: of each setting the runs' values on the target's validation problems.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the intervals.

    Returns:
        For each loss the chosen setting's place, None for the base, and its accuracy, a fraction.

    Raises:
        InputError: as ``forgetting``.
    """
    replicates, arms = _replicates(before, settings, target, seed, draws)
    base, tuned = _means(before), [_mean_over_runs(before, runs) for runs in settings]
    kept = [backward_transfer(base, one, target) for one in tuned]
    kept_drawn = [_transfer(before, replicates, drawn, target) for drawn in arms]
    rank, rank_drawn = [one[target] for one in tuned], [drawn[target] for drawn in arms]
    if validation is not None:
        rank = [float(np.mean([values.mean() for values in runs])) for runs in validation]
        rng = np.random.default_rng([seed, *f"validation {target}".encode()])
        rank_drawn = _drawn_means((), validation, seed, draws, rng)[1]
    values_drawn = np.stack([replicates[target], *(drawn[target] for drawn in arms)])
    found: list[tuple[int | None, Estimate]] = []
    for loss in losses:
        least = -loss - 1e-9  # a loss of exactly that much is allowed
        allowed = [place for place, bwt in enumerate(kept) if bwt >= least and not math.isnan(rank[place])]
        place = max(allowed, key=rank.__getitem__, default=None)
        ranks = [
            np.where((bwt >= least) & ~np.isnan(one), one, -np.inf)
            for one, bwt in zip(rank_drawn, kept_drawn, strict=True)
        ]
        chosen = np.argmax(np.stack([np.full(draws, -np.inf), *ranks]), axis=0)  # the base comes first
        value = base[target] if place is None else tuned[place][target]
        found.append((place, estimate(value, values_drawn[chosen, np.arange(draws)], level)))
    return found


def _replicates(
    before: Flags, arms: Sequence[Sequence[Flags]], target: str, seed: int, draws: int
) -> tuple[_Replicates, list[_Replicates]]:
    """The accuracies of the base and of every arm (the mean over its seeds) on the same resampled problems."""
    for runs in arms:
        _check_pairs(before, runs, target)
    base: _Replicates = {}
    tuned: list[_Replicates] = [{} for _ in arms]
    for task, flags in before.items():
        rng = np.random.default_rng([seed, *task.encode()])
        (base[task],), means = _drawn_means([flags], [[run[task] for run in runs] for runs in arms], seed, draws, rng)
        for drawn, into in zip(means, tuned, strict=True):
            into[task] = drawn
    return base, tuned


def _drawn_means(
    single: Sequence[Values], arms: Sequence[Sequence[Values]], seed: int, draws: int, rng: np.random.Generator
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Means [draws] over the same drawn problems: of single models, and of arms, whose seeds are drawn too."""
    means = resampled_means([*single, *(values for runs in arms for values in runs)], draws, rng)
    alone, means = list(means[:, : len(single)].T), means[:, len(single) :]
    weighted = []
    for runs in arms:
        weighted.append((means[:, : len(runs)] * seed_weights(len(runs), seed, draws)).sum(axis=1))
        means = means[:, len(runs) :]
    return alone, weighted


def _check_pairs(before: Flags, runs: Sequence[Flags], target: str) -> None:
    if not runs:
        raise InputError("no run to compare with the base")
    if target not in before:
        raise InputError(f"the target {target!r} was not evaluated; there are: {', '.join(before) or 'none'}")
    for task, flags in before.items():
        if len(flags) == 0:
            raise InputError(f"task {task!r} has no problems")
        if any(task not in run or len(run[task]) != len(flags) for run in runs):
            raise InputError(f"task {task!r}: the problems before and after do not pair up")


def _percent(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative change in percent; infinite or NaN where the base is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100 * (after / before - 1)


def _transfer(flags: Flags, before: _Replicates, after: _Replicates, target: str) -> NDArray[np.float64]:
    """BWT in every replicate, over the tasks that count in it for the problems as they were."""
    dropped = undefined_tasks(_means(flags), target)
    changes = [_percent(before[task], after[task]) for task in flags if task != target and task not in dropped]
    return np.mean(changes, axis=0) if changes else np.full(len(before[target]), math.nan)


def _means(flags: Flags) -> dict[str, float]:
    return {task: float(values.mean()) for task, values in flags.items()}


def _mean_over_runs(before: Flags, runs: Sequence[Flags]) -> dict[str, float]:
    return {task: float(np.mean([run[task].mean() for run in runs])) for task in before}


def _of(accuracies: float | Mapping[str, float], task: str | None) -> float:
    if not isinstance(accuracies, Mapping):
        return float(accuracies)
    if task is None and len(accuracies) == 1:
        return next(iter(accuracies.values()))
    if task is None or task not in accuracies:
        raise InputError(f"expected the accuracy of {task or 'one target'!r}, got {', '.join(accuracies) or 'nothing'}")
    return accuracies[task]
