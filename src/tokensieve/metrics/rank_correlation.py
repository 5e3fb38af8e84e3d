"""Rank correlation of two measures of the same runs, with an interval that knows which runs are alike."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.metrics.intervals import BOOTSTRAP_DRAWS, Estimate

LEAST_RUNS: Final = 6
"""Runs below which a rank correlation says nothing: of five, one in 60 orders is perfect by chance alone."""
LEAST_GROUPS: Final = 6
"""Groups of runs below which there is no interval: a bootstrap over so few of them is far too narrow."""


def rank_correlation(
    x_R: Sequence[float],
    y_R: Sequence[float],
    groups_R: Sequence[str] | None = None,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> Estimate:
    """Spearman's rank correlation, in [-1, 1], with a percentile bootstrap over runs or over groups of runs.

    Ties get the mean of their ranks; runs in which a measure is NaN (not scored) are left out. Whole groups are drawn,
    since the seeds of one arm are alike. Replicates in which
    a measure is constant are left out of the interval, which is widened to hold the correlation itself.

    Args:
        x_R: one measure, a value a run.
        y_R: the other.
        groups_R: the group of each run; None where runs are independent.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the interval.

    Returns:
        The correlation; undefined for fewer than six runs or where a measure is constant, without an interval for
        fewer than six groups.

    Raises:
        InputError: lists of different lengths.
    """
    x, y = np.asarray(x_R, dtype=np.float64), np.asarray(y_R, dtype=np.float64)
    groups = [str(run) for run in range(len(x))] if groups_R is None else list(groups_R)
    if not len(x) == len(y) == len(groups):
        raise InputError(f"{len(x)} and {len(y)} values of {len(groups)} runs")
    scored = ~(np.isnan(x) | np.isnan(y))
    x, y, groups = x[scored], y[scored], [name for name, known in zip(groups, scored, strict=True) if known]
    if len(x) < LEAST_RUNS:
        return Estimate()
    value = spearman(x, y)
    members = [np.flatnonzero(np.array(groups) == name) for name in dict.fromkeys(groups)]
    if len(members) < LEAST_GROUPS:
        return Estimate.of(value)
    rng = np.random.default_rng(seed)
    replicates = []
    for _ in range(draws):
        drawn = np.concatenate([members[place] for place in rng.integers(len(members), size=len(members))])
        replicates.append(spearman(x[drawn], y[drawn]))
    finite = np.array([one for one in replicates if math.isfinite(one)])
    if not len(finite):
        return Estimate.of(value)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    # Runs that are drawn twice are ties, which pull a replicate towards 0.
    return Estimate.of(value, min(float(low), value), max(float(high), value))


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return middle


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's correlation of the ranks; NaN where one of the two is constant, or holds a NaN, which has no rank."""
    if np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    a, b = ranks(x) - (len(x) + 1) / 2, ranks(y) - (len(y) + 1) / 2
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan
