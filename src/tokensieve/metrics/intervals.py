"""Estimates with intervals: shares of correct answers, means over rows, and the bootstrap that other metrics share."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from tokensieve.config import STRICT
from tokensieve.errors import InputError
from tokensieve.types import BoolArray

BOOTSTRAP_DRAWS = 4000


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

    @property
    def flat(self) -> bool:
        """True where the interval has no width: all that a bootstrap drew from came out alike."""
        return self.low is not None and self.low == self.high

    def negated(self) -> "Estimate":
        """The same with the other sign, so that a fall becomes a rise; its ends change places."""
        value, low, high = (None if end is None else 0.0 - end for end in (self.value, self.high, self.low))
        return Estimate(value=value, low=low, high=high)

    @model_validator(mode="after")
    def _check_ends(self) -> "Estimate":
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both ends or none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval's ends are out of order: {self.low} > {self.high}")
        return self


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


def standard_error(share: float, problems: int) -> float:
    """Standard error of a share of correct answers, of one run, a fraction; never quite 0.

    Args:
        share: of correct answers, a fraction.
        problems: number of problems.
    """
    return math.sqrt(max(share * (1 - share), 1e-9) / max(problems, 1))


def within_standard_error(one: float, other: float, problems: int) -> bool:
    """True where two accuracies, fractions, are within one standard error of each other.

    The standard error is that of a share of correct answers at the mean of both, of one run; so two models on the same
    problems count as different a little later than a paired test would say.

    Args:
        one: an accuracy.
        other: another one on the same problems.
        problems: number of those problems.
    """
    return abs(one - other) <= standard_error((one + other) / 2, problems)


def within_paired_error(difference_N: NDArray[np.float64]) -> bool:
    """True where the mean of paired differences is within one standard error of 0; of one pair, where it is 0.

    Args:
        difference_N: one value of two models minus the other's, a problem each.
    """
    if len(difference_N) < 2:
        return not difference_N.any()
    return bool(abs(difference_N.mean()) <= difference_N.std(ddof=1) / math.sqrt(len(difference_N)))


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
    before_R = np.zeros(len(sums_R))
    return mean_change_per_token(before_R, sums_R[:, None], tokens_R, seed=seed, draws=draws, level=level)


def mean_change_per_token(
    before_R: NDArray[np.float64],
    after_RS: NDArray[np.float64],
    tokens_R: NDArray[np.float64],
    *,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
    level: float = 0.95,
) -> Estimate:
    """Change of a mean per token on the same rows, paired: whole rows and training seeds are drawn anew.

    Args:
        before_R: sum of the quantity over each row's tokens before training.
        after_RS: the same after it, rows x training seeds.
        tokens_R: number of tokens of each row.
        seed: of the bootstrap.
        draws: bootstrap replicates.
        level: coverage of the interval.

    Returns:
        The mean over seeds of after minus before; undefined without tokens, no interval for fewer than two rows.
    """
    if not tokens_R.sum():
        return Estimate()
    change_RS = after_RS - before_R[:, None]
    value = float(change_RS.mean(axis=1).sum() / tokens_R.sum())
    if len(tokens_R) < 2:
        return Estimate.of(value)
    drawn = np.random.default_rng(seed).multinomial(
        len(tokens_R), np.full(len(tokens_R), 1 / len(tokens_R)), size=draws
    )
    sums = ((drawn @ change_RS) * seed_weights(change_RS.shape[1], seed, draws)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return estimate(value, sums / (drawn @ tokens_R), level)


def resampled_means(
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


def estimate(value: float, replicates_D: NDArray[np.float64], level: float) -> Estimate:
    """A number with the percentiles of its bootstrap replicates.

    Replicates that are not finite are left out; where they are more than lie beyond one end, there is no interval.

    Args:
        value: the number; NaN has no interval.
        replicates_D: its value in each replicate.
        level: coverage of the interval.
    """
    finite = replicates_D[np.isfinite(replicates_D)]
    tail = (1 - level) / 2
    if math.isnan(value) or len(replicates_D) - len(finite) > tail * len(replicates_D):
        return Estimate.of(value)
    low, high = np.quantile(finite, [tail, 1 - tail])
    return Estimate.of(value, low, high)
