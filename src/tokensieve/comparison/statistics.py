"""Tests and intervals for paired evaluations: the same problems answered by a model before and after training.

All of it is NumPy and the standard library. Sources: McNemar, Psychometrika 12 (1947); Bonett and Price, J. Educ.
Behav. Stat. 37 (2012), whose two added pairs keep an interval honest where few problems change; Rao and Wu, JASA 83
(1988), and Owen, Ann. Appl. Stat. 1 (2007), for drawing training seeds beside problems; Benjamini and Hochberg, JRSS B
57 (1995).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.metrics import BOOTSTRAP_DRAWS, Estimate, seed_weights

EXACT_UP_TO: Final = 1000
"""Discordant pairs up to which McNemar's test is the exact binomial one."""
POWER: Final = 0.8
"""Power at which the smallest detectable loss is given."""

_CELLS: Final = 4_000_000
"""Entries of one block of bootstrap counts: memory stays below 32 MiB."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Change of accuracy on the same problems.

    Attributes:
        points: accuracy after minus before in percentage points, with its interval.
        p_value: of no change, two-sided.
        test: the test that gave it.
        detectable_points: the smallest loss, in percentage points, that this many problems show with a power of 0.8 at
            the interval's level.
    """

    points: Estimate
    p_value: float
    test: str
    detectable_points: float

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends in percentage points; a paired difference always has them."""
        ends = self.points.interval
        if ends is None:
            raise RuntimeError("a paired difference without an interval")
        return ends


def paired_difference(
    before_P: NDArray[np.float64],
    after_PS: NDArray[np.float64],
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> PairedDifference:
    """Mean change over problems, with a bootstrap interval, a p-value and the power of the test.

    The interval holds the percentiles of a bootstrap over problems (whole groups where problems share one) and, with
    several training seeds, over seeds. One problem that is lost and one that is gained are added to the sample, so that
    an interval has a width also where no problem changed (Bonett and Price). The p-value is McNemar's for one binary
    answer a problem; else that of the same bootstrap. Known limits: fewer than about five seeds, or fewer than about
    twenty groups, make the interval too narrow.

    Args:
        before_P: the base's share of correct answers to each problem, in [0, 1].
        after_PS: the same after training, problems x training seeds.
        groups: the group of each problem; None where problems are independent.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the interval.

    Raises:
        InputError: no problems or no seeds, or arrays that do not fit together.
    """
    if after_PS.ndim != 2 or 0 in after_PS.shape or len(before_P) != len(after_PS):
        raise InputError(f"expected problems x seeds, got {before_P.shape} before and {after_PS.shape} after")
    change_PS = after_PS - before_P[:, None]
    replicates = _replicates(change_PS, groups, seed, draws)
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    z = NormalDist()
    detectable = (z.inv_cdf((1 + level) / 2) + z.inv_cdf(POWER)) * float(replicates.std())
    p_value, test = _p_value(change_PS, before_P, replicates, grouped=groups is not None)
    return PairedDifference(
        points=Estimate.of(100 * float(change_PS.mean()), 100 * float(low), 100 * float(high)),
        p_value=p_value,
        test=test,
        detectable_points=100 * detectable,
    )


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p-value of McNemar's test; 1.0 where no pair is discordant.

    Exact binomial up to 1,000 discordant pairs, chi-square with continuity correction beyond.

    Args:
        lost: problems that only the base solves.
        gained: problems that only the trained model solves.
    """
    pairs = lost + gained
    if pairs <= EXACT_UP_TO:
        tail = sum(math.comb(pairs, k) for k in range(min(lost, gained) + 1))
        return min(1.0, float(2 * tail / 2**pairs))
    statistic = max(0, abs(lost - gained) - 1) ** 2 / pairs
    return math.erfc(math.sqrt(statistic / 2))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for the false discovery rate over all of them, in the order given."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place], reverse=True)
    adjusted, smallest = [0.0] * len(p_values), 1.0
    for above, place in enumerate(order):
        smallest = min(smallest, p_values[place] * len(p_values) / (len(p_values) - above))
        adjusted[place] = smallest
    return adjusted


def _p_value(
    change_PS: NDArray[np.float64], before_P: NDArray[np.float64], replicates: NDArray[np.float64], *, grouped: bool
) -> tuple[float, str]:
    binary = bool(np.isin(change_PS, (-1, 0, 1)).all() and np.isin(before_P, (0, 1)).all())
    if binary and not grouped and change_PS.shape[1] == 1:
        lost, gained = int((change_PS < 0).sum()), int((change_PS > 0).sum())
        kind = "exact" if lost + gained <= EXACT_UP_TO else "chi-square"
        return mcnemar(lost, gained), f"McNemar, {kind}"
    below, above = int((replicates <= 0).sum()), int((replicates >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(replicates) + 1)), "bootstrap"


def _replicates(
    change_PS: NDArray[np.float64], groups: Sequence[str] | None, seed: int, draws: int
) -> NDArray[np.float64]:
    """Mean change in every bootstrap replicate, a fraction [draws].

    Units (problems or groups) of the same sums and size are exchangeable, so their number is drawn instead of
    themselves.
    """
    runs = change_PS.shape[1]
    sums, sizes = _units(change_PS, groups)
    sums = np.vstack([sums, np.ones((1, runs)), -np.ones((1, runs))])
    sizes = np.append(sizes, [1.0, 1.0])
    kinds, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // len(kinds))
    means = []
    for first in range(0, draws, block):
        drawn = rng.multinomial(len(sizes), counts / len(sizes), size=min(block, draws - first))
        totals = drawn @ kinds
        means.append(totals[:, :runs] / totals[:, runs:])
    weighted: NDArray[np.float64] = (np.vstack(means) * seed_weights(runs, seed, draws)).sum(axis=1)
    return weighted


def _units(
    change_PS: NDArray[np.float64], groups: Sequence[str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Units of the bootstrap: sums [units x seeds] and sizes [units]; a problem without a group is its own unit."""
    if groups is None:
        return change_PS, np.ones(len(change_PS))
    names = [("group", group) if group else ("problem", str(place)) for place, group in enumerate(groups)]
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    unit_P = np.array([places[name] for name in names])
    sums = np.zeros((len(places), change_PS.shape[1]))
    np.add.at(sums, unit_P, change_PS)
    return sums, np.bincount(unit_P).astype(np.float64)
