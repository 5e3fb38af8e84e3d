"""Accuracy, target improvement and backward transfer, with their intervals.

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
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from tokensieve.config import STRICT
from tokensieve.errors import InputError
from tokensieve.types import BoolArray

BOOTSTRAP_DRAWS = 4000

Flags: TypeAlias = Mapping[str, BoolArray | NDArray[np.float64]]
"""Task to one value a problem: correct or not, or the share of its answers that are; the same problems in the same
order wherever two are compared."""
_Replicates: TypeAlias = dict[str, NDArray[np.float64]]
"""Task to accuracy, a fraction, one value a bootstrap replicate."""


class Estimate(BaseModel):
    """A number with its 95 % interval; the same in memory, in a report's JSON and on its page."""

    model_config = STRICT | ConfigDict(allow_inf_nan=False)

    value: float | None = None
    """None where it is undefined, e.g. relative to a base of 0."""
    low: float | None = None
    """Lower end of the interval; None where there is none."""
    high: float | None = None
    """Upper end of the interval."""

    @classmethod
    def of(cls, value: float, low: float = math.nan, high: float = math.nan) -> "Estimate":
        """From floats; what is not finite becomes None, and an undefined value has no interval."""
        value, low, high = float(value), float(low), float(high)
        if not math.isfinite(value):
            return cls()
        if not (math.isfinite(low) and math.isfinite(high)):
            return cls(value=value)
        return cls(value=value, low=low, high=high)

    @property
    def defined(self) -> bool:
        """True where there is a number."""
        return self.value is not None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @model_validator(mode="after")
    def _check_ends(self) -> "Estimate":
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both ends or none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval's ends are out of order: {self.low} > {self.high}")
        return self


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One training run against its base model.

    Attributes:
        ti: target improvement in percent; undefined where the base solves none of the target's problems.
        ti_points: change on the target in percentage points; always defined.
        bwt: backward transfer in percent; undefined where no other task has a base above 0.
        dropped_tasks: tasks left out of BWT since the base solves none of their problems.
    """

    ti: Estimate
    ti_points: Estimate
    bwt: Estimate
    dropped_tasks: tuple[str, ...]


def accuracy(correct: int, n: int, level: float = 0.95, *, problems: int | None = None) -> Estimate:
    """Share of correct answers, a fraction, with its Wilson score interval; undefined for ``n = 0``.

    Args:
        correct: correct answers.
        n: all answers.
        level: coverage of the interval.
        problems: number of problems answered, where several seeds or samples answer the same ones; None is one answer
            a problem. Answers to one problem are alike, so the interval counts problems: exact where the answers to a
            problem always agree, wider than needed elsewhere.

    Raises:
        InputError: more correct answers than answers, or more problems than answers.
    """
    if not 0 <= correct <= n:
        raise InputError(f"{correct} correct answers of {n}")
    size = n if problems is None else problems
    if not 0 <= size <= n or (n and not size):
        raise InputError(f"{n} answers to {problems} problems")
    if n == 0:
        return Estimate()
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / n
    centre = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return Estimate.of(share, max(0.0, centre - half), min(1.0, centre + half))


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
        ti=_estimate(target_improvement(base, tuned, target), _percent(replicates[target], drawn[target]), level),
        ti_points=_estimate(100 * (tuned[target] - base[target]), 100 * (drawn[target] - replicates[target]), level),
        bwt=_estimate(backward_transfer(base, tuned, target), _transfer(before, replicates, drawn, target), level),
        dropped_tasks=undefined_tasks(base, target),
    )


def difference(
    before: Flags,
    arm: Sequence[Flags],
    reference: Sequence[Flags],
    target: str,
    *,
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
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the intervals.

    Raises:
        InputError: as ``forgetting``.
    """
    replicates, (ours, theirs) = _replicates(before, [arm, reference], target, seed, draws)
    base, tuned, other = _means(before), _mean_over_runs(before, arm), _mean_over_runs(before, reference)
    bwt = backward_transfer(base, tuned, target) - backward_transfer(base, other, target)
    with np.errstate(invalid="ignore"):  # infinite less infinite is NaN, and counts as undefined
        bwts = _transfer(before, replicates, ours, target) - _transfer(before, replicates, theirs, target)
    return (
        _estimate(100 * (tuned[target] - other[target]), 100 * (ours[target] - theirs[target]), level),
        _estimate(bwt, bwts, level),
    )


def best_within(
    before: Flags,
    settings: Sequence[Sequence[Flags]],
    target: str,
    losses: Sequence[float],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> list[tuple[int | None, Estimate]]:
    """The best accuracy on the target among settings of one arm whose BWT is not below minus each of the losses.

    The base itself, which loses nothing, is one of the choices, so there always is a best. The choice is made on the
    problems that measure it, and is made anew in every replicate of the bootstrap.

    Args:
        before: as in ``forgetting``, and so are ``target``, ``seed``, ``draws`` and ``level``.
        settings: the runs of each setting.
        target: the task that was trained.
        losses: most that the other tasks may lose, in percent.
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
    found: list[tuple[int | None, Estimate]] = []
    for loss in losses:
        least = -loss - 1e-9  # a loss of exactly that much is allowed
        values = [one[target] if bwt >= least else -math.inf for one, bwt in zip(tuned, kept, strict=True)]
        best = max(range(len(values)), key=values.__getitem__)
        place = best if values[best] > base[target] else None
        drawn = [np.where(bwt >= least, arm[target], -np.inf) for arm, bwt in zip(arms, kept_drawn, strict=True)]
        highest = np.max([replicates[target], *drawn], axis=0)
        found.append((place, _estimate(base[target] if place is None else values[place], highest, level)))
    return found


def within_standard_error(one: float, other: float, problems: int) -> bool:
    """True where two accuracies, fractions, are within one standard error of each other.

    The standard error is that of a share of correct answers at the mean of both, of one run; so two models on the same
    problems count as different a little later than a paired test would say.

    Args:
        one: an accuracy.
        other: another one on the same problems.
        problems: number of those problems.
    """
    mean = (one + other) / 2
    return abs(one - other) <= math.sqrt(max(mean * (1 - mean), 1e-9) / max(problems, 1))


def mean_per_token(
    sums_R: NDArray[np.float64],
    tokens_R: NDArray[np.float64],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> Estimate:
    """Mean per token over rows, with a percentile bootstrap over whole rows, since tokens of one row are alike.

    Args:
        sums_R: sum of the quantity over each row's tokens.
        tokens_R: number of tokens of each row.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the interval.

    Returns:
        The ratio of the two sums; NaN without tokens, no interval for fewer than two rows.
    """
    if not tokens_R.sum():
        return Estimate()
    value = float(sums_R.sum() / tokens_R.sum())
    if len(tokens_R) < 2:
        return Estimate.of(value)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(tokens_R), np.full(len(tokens_R), 1 / len(tokens_R)), size=draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _estimate(value, (drawn @ sums_R) / (drawn @ tokens_R), level)


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
        means = _resampled([flags, *(run[task] for runs in arms for run in runs)], draws, rng)
        base[task], means = means[:, 0], means[:, 1:]
        for runs, into in zip(arms, tuned, strict=True):
            into[task] = (means[:, : len(runs)] * seed_weights(len(runs), seed, draws)).sum(axis=1)
            means = means[:, len(runs) :]
    return base, tuned


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


def _resampled(
    columns: Sequence[BoolArray | NDArray[np.float64]], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean of each column over problems that are drawn with replacement, the same ones for all: draws x columns.

    Problems that came out alike in every column are exchangeable, so their number is drawn instead of themselves: the
    same distribution, in memory that does not grow with the problems.
    """
    kinds, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=draws)
    means: NDArray[np.float64] = drawn @ kinds.astype(np.float64) / counts.sum()
    return means


def seed_weights(runs: int, seed: int, draws: int) -> NDArray[np.float64]:
    """Weight of each training seed in each bootstrap replicate, draws x runs; the rows sum to 1."""
    if runs == 1:
        return np.ones((draws, 1))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(runs,)))
    return rng.multinomial(runs - 1, np.full(runs, 1 / runs), size=draws) / (runs - 1)


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


def _estimate(value: float, replicates: NDArray[np.float64], level: float) -> Estimate:
    finite = replicates[np.isfinite(replicates)]
    tail = (1 - level) / 2
    if math.isnan(value) or len(replicates) - len(finite) > tail * len(replicates):
        return Estimate.of(value)
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Estimate.of(value, low, high)
