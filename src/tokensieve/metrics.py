"""What was gained and what was forgotten: accuracy, target improvement, backward transfer, and their intervals.

Definitions as in paper section 4 (Wu et al., arXiv 2501.14315): ``TI = 100 (after / before - 1)`` on the target,
``BWT = 100 mean (after / before - 1)`` over the other tasks. Both in percent; higher is better.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.types import BoolArray

BOOTSTRAP_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; all NaN where it is not defined."""

    value: float
    low: float
    high: float

    @property
    def defined(self) -> bool:
        """Whether there is a number at all."""
        return not math.isnan(self.value)


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One training run against its base model.

    Attributes:
        ti: target improvement in percent; NaN where the base solves none of the target's problems.
        ti_points: change on the target in percentage points; always defined.
        bwt: backward transfer in percent; NaN where no other task has a base above 0.
        dropped_tasks: tasks left out of BWT since the base solves none of their problems.
    """

    ti: Estimate
    ti_points: Estimate
    bwt: Estimate
    dropped_tasks: tuple[str, ...]


def accuracy(correct: int, n: int, level: float = 0.95) -> Estimate:
    """Share of correct answers, a fraction, with its Wilson score interval; all NaN for ``n = 0``.

    Raises:
        InputError: more correct answers than answers.
    """
    if not 0 <= correct <= n:
        raise InputError(f"{correct} correct answers of {n}")
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


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

    Tasks whose base is 0 have no relative change and are left out (``undefined_tasks`` names them); NaN where none
    is left.

    Raises:
        InputError: a task of ``before`` is missing in ``after``.
    """
    others = [task for task in before if task != target and before[task] > 0]
    changes = [_of(after, task) / before[task] - 1 for task in others]
    return 100 * sum(changes) / len(changes) if changes else math.nan


def undefined_tasks(before: Mapping[str, float], target: str) -> tuple[str, ...]:
    """Tasks other than the target on which the base solves nothing, so that they cannot count in BWT."""
    return tuple(task for task in before if task != target and before[task] == 0)


def forgetting(
    before: Mapping[str, BoolArray],
    after: Sequence[Mapping[str, BoolArray]],
    target: str,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> Forgetting:
    """TI and BWT with intervals by a paired bootstrap over problems, and over seeds where there are several.

    Problems are drawn with replacement within each task, the same ones before and after, so that a problem's
    difficulty cancels; with several training seeds a seed is drawn first. Draws in which a ratio is undefined
    are left out of the percentiles.

    Args:
        before: task to one flag a problem (correct or not) under the base model.
        after: the same problems in the same order after training; one mapping a training seed.
        target: the task that was trained.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the intervals.

    Raises:
        InputError: problems or tasks that do not pair up.
    """
    replicates = _replicates(before, after, target, seed, draws)
    base, tuned = _means(before), _mean_over_runs(before, after)
    return Forgetting(
        ti=_estimate(target_improvement(base, tuned, target), replicates.ti, level),
        ti_points=_estimate(100 * (tuned[target] - base[target]), replicates.points, level),
        bwt=_estimate(backward_transfer(base, tuned, target), replicates.bwt, level),
        dropped_tasks=undefined_tasks(base, target),
    )


def difference(
    before: Mapping[str, BoolArray],
    arm: Sequence[Mapping[str, BoolArray]],
    reference: Sequence[Mapping[str, BoolArray]],
    target: str,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> tuple[Estimate, Estimate]:
    """An arm minus a reference arm on the same resampled problems: the target in points, and BWT in percent.

    The same draw of problems, and of the seed where both arms have as many, serves both arms, so that what they
    share cancels.

    Args:
        before: as in ``forgetting``.
        arm: the arm's runs.
        reference: the reference's runs.
        target: the task that was trained.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the intervals.

    Raises:
        InputError: problems or tasks that do not pair up.
    """
    ours, theirs = (_replicates(before, runs, target, seed, draws) for runs in (arm, reference))
    base, tuned, other = _means(before), _mean_over_runs(before, arm), _mean_over_runs(before, reference)
    bwt = backward_transfer(base, tuned, target) - backward_transfer(base, other, target)
    return (
        _estimate(100 * (tuned[target] - other[target]), ours.points - theirs.points, level),
        _estimate(bwt, ours.bwt - theirs.bwt, level),
    )


@dataclass(frozen=True, slots=True)
class _Replicates:
    """One value a bootstrap replicate; NaN or infinite where a ratio is undefined."""

    ti: NDArray[np.float64]
    points: NDArray[np.float64]
    bwt: NDArray[np.float64]


def _replicates(
    before: Mapping[str, BoolArray], after: Sequence[Mapping[str, BoolArray]], target: str, seed: int, draws: int
) -> _Replicates:
    if not after:
        raise InputError("no run to compare with the base")
    for run in after:
        for task, flags in before.items():
            if task not in run or len(run[task]) != len(flags):
                raise InputError(f"task {task!r}: the problems before and after do not pair up")
    rng = np.random.default_rng(seed)
    runs = rng.integers(len(after), size=draws)
    means = {task: _bootstrap_means(flags, [run[task] for run in after], runs, rng) for task, flags in before.items()}
    dropped = undefined_tasks(_means(before), target)
    others = [task for task in before if task != target and task not in dropped]
    with np.errstate(divide="ignore", invalid="ignore"):
        ti = 100 * (means[target][1] / means[target][0] - 1)
        changes = [means[task][1] / means[task][0] - 1 for task in others]
        bwt = 100 * np.mean(changes, axis=0) if changes else np.full(draws, math.nan)
    return _Replicates(ti, 100 * (means[target][1] - means[target][0]), bwt)


def _means(flags: Mapping[str, BoolArray]) -> dict[str, float]:
    return {task: float(values.mean()) for task, values in flags.items()}


def _mean_over_runs(before: Mapping[str, BoolArray], runs: Sequence[Mapping[str, BoolArray]]) -> dict[str, float]:
    return {task: float(np.mean([run[task].mean() for run in runs])) for task in before}


def _of(accuracies: float | Mapping[str, float], task: str | None) -> float:
    if not isinstance(accuracies, Mapping):
        return float(accuracies)
    if task is None and len(accuracies) == 1:
        return next(iter(accuracies.values()))
    if task is None or task not in accuracies:
        raise InputError(f"expected the accuracy of {task or 'one target'!r}, got {', '.join(accuracies) or 'nothing'}")
    return accuracies[task]


def _bootstrap_means(
    before: BoolArray, after: Sequence[BoolArray], runs: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean accuracy before and after on the same resampled problems, one pair a replicate."""
    n = len(before)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=len(runs)).astype(np.float64)
    tuned = np.stack(after).astype(np.float64)
    return counts @ before.astype(np.float64) / n, np.einsum("dn,dn->d", counts, tuned[runs]) / n


def _estimate(value: float, replicates: NDArray[np.float64], level: float) -> Estimate:
    finite = replicates[np.isfinite(replicates)]
    if math.isnan(value) or len(finite) == 0:
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))
