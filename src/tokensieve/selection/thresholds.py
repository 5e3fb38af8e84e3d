"""Policies that leave tokens out by a threshold on their nll: plain, stm, share, nll_budget; and exact thresholds.

A threshold for a share is an order statistic of float32 values that are streamed twice: constant memory, independent of
the rows' order.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.selection.policy import (
    Candidates,
    Decision,
    Factors,
    TrainingSplit,
    Traits,
    no_argument,
    number,
)
from tokensieve.types import FloatArray

Scope: TypeAlias = Literal["split", "row"]
"""Over what a share is taken: all rows of the training split pooled, or each row by itself."""
Passes: TypeAlias = Callable[[], Iterable[FloatArray]]
"""Starts a fresh pass over all values; called twice."""

_BINS: Final = 1 << 16
_GRAIN: Final = 2.0**-20
"""Values are summed as multiples of this, so that a sum does not depend on the order of its terms."""

# Float32 values sort like their bit patterns, so a histogram of the upper 16 bits finds the bin that holds a value,
# and one of the lower 16 bits, within that bin, the value itself.


@dataclass(frozen=True, slots=True)
class Plain:
    """Train every response token: plain fine-tuning.

    Formula: the factor of every candidate is 1. Source: our own word for the usual fine-tuning.
    """

    usage: ClassVar[str] = "plain"
    traits: ClassVar[Traits] = Traits(trains_all=True)
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        no_argument(argument, cls.usage)
        return cls()

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - needs no scores
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(np.ones(len(row)))


@dataclass(frozen=True, slots=True)
class Stm:
    """Leave out tokens of a perplexity above PPL (selective token masking).

    Formula: a candidate is trained where ``nll <= ln(PPL)``, compared in nats and without rounding, so that a token of
    exactly PPL is trained. Source: Wu et al. 2025, arXiv 2501.14315, sections 3 and 5 (PPL 2.5). Differs: protected
    tokens, such as end of turn, are always trained unless ``paper_exact``.
    """

    perplexity: float
    usage: ClassVar[str] = "stm:PPL"
    traits: ClassVar[Traits] = Traits()

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``."""
        return math.log(self.perplexity)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(perplexity(argument, cls.usage))

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - the threshold is given
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(not_above(row.nll_P(), self.threshold_nats))


@dataclass(frozen=True, slots=True)
class Share:
    """Leave out the FRACTION of the tokens with the highest nll, of all rows pooled or of each row (:row).

    Formula: STM with the smallest threshold above which at most FRACTION of the candidates lie; tokens tied at the
    threshold are trained, so that never more than FRACTION are left out. Source: the rule of thumb of arXiv
    2501.14315, section 5 (20 to 25 % of the tokens), as a threshold that follows the data.
    """

    fraction: float
    scope: Scope = "split"
    threshold_nats: float = math.inf
    usage: ClassVar[str] = "share:FRACTION[:row]"
    traits: ClassVar[Traits] = Traits()

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        fraction, scope = fraction_and_scope(argument, cls.usage, "a fraction of the tokens")
        return cls(fraction, scope)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        if self.scope == "row":
            return self
        found = threshold_for_share(self.fraction, lambda: (as_scored(row.nll_P()) for row in split.rows()))
        return replace(self, threshold_nats=found)

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        nll_P, threshold = row.nll_P(), self.threshold_nats
        if self.scope == "row":
            threshold = threshold_for_share(self.fraction, lambda: [as_scored(nll_P)])
        return Decision(not_above(nll_P, threshold))


@dataclass(frozen=True, slots=True)
class NllBudget:
    """Leave out the most unlikely tokens that hold FRACTION of the summed nll, of all rows or of each row (:row).

    Formula: STM with the smallest threshold so that the candidates above it hold at most FRACTION of the candidates'
    nll. Source: our own, after arXiv 2501.14315, where the 21 % of the tokens that are left out hold 94 % of the nll:
    this fixes the second number and lets the first follow.
    """

    fraction: float
    scope: Scope = "split"
    threshold_nats: float = math.inf
    usage: ClassVar[str] = "nll_budget:FRACTION[:row]"
    traits: ClassVar[Traits] = Traits()

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        fraction, scope = fraction_and_scope(argument, cls.usage, "a fraction of the nll")
        return cls(fraction, scope)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        if self.scope == "row":
            return self
        found = threshold_for_sum(self.fraction, lambda: (as_scored(row.nll_P()) for row in split.rows()))
        return replace(self, threshold_nats=found)

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        nll_P, threshold = row.nll_P(), self.threshold_nats
        if self.scope == "row":
            threshold = threshold_for_sum(self.fraction, lambda: [as_scored(nll_P)])
        return Decision(not_above(nll_P, threshold))


def perplexity(text: str, usage: str) -> float:
    """A perplexity of at least 1.

    Raises:
        InputError: it is none.
    """
    return number(text, usage, low=1.0, what="a perplexity of at least 1")


def fraction_and_scope(argument: str, usage: str, what: str) -> tuple[float, Scope]:
    """The fraction and the scope of ``FRACTION[:row]``.

    Raises:
        InputError: the argument is spelled otherwise.
    """
    text, colon, scope = argument.partition(":")
    fraction = number(text, usage, low=0.0, high=1.0, what=f"{what} between 0 and 1")
    if colon and scope != "row":
        raise InputError(
            f"expected row or nothing behind the fraction, got {scope!r}", where=usage.partition(":")[0], fix=usage
        )
    return fraction, "row" if colon else "split"


def not_above(value_P: Factors, threshold: float) -> Factors:
    """1 where the value is not above the threshold, 0 where it is."""
    return (value_P <= threshold).astype(np.float64)


def as_scored(value_P: Factors) -> FloatArray:
    """Values as the float32 numbers that the scores are."""
    return value_P.astype(np.float32)


def threshold_for_share(share: float, passes: Passes) -> float:
    """The smallest threshold above which at most ``share`` of all values lie; infinite for none, -infinite for all."""
    upper = _upper_counts(passes)
    total = int(upper.sum())
    left_out = math.floor(share * total + 1e-9)
    if left_out == 0:
        return math.inf
    if left_out == total:
        return -math.inf
    return _value_at(total - 1 - left_out, upper, passes)  # the largest value that stays


def median(passes: Passes) -> float:
    """The median of all values, the mean of the two middle ones where their number is even; NaN of none."""
    upper = _upper_counts(passes)
    total = int(upper.sum())
    if total == 0:
        return math.nan
    return (_value_at((total - 1) // 2, upper, passes) + _value_at(total // 2, upper, passes)) / 2


def threshold_for_sum(share: float, passes: Passes) -> float:
    """The smallest threshold so that the values above it hold at most ``share`` of the sum of all.

    Sums are exact to 1e-6 a value. Infinite where there is no value, -infinite where all fit.

    Args:
        share: fraction of the sum, in [0, 1].
        passes: the values, which are not negative.
    """
    counts, sums = np.zeros(_BINS, dtype=np.int64), np.zeros(_BINS)
    for values in passes():
        bins = sortable(values) >> 16
        counts += np.bincount(bins, minlength=_BINS)
        sums += np.bincount(bins, weights=np.rint(values.astype(np.float64) / _GRAIN), minlength=_BINS)
    budget = share * float(sums.sum()) + 0.5
    # The bin in which the budget ends: those above it are left out whole.
    above = np.cumsum(sums[::-1])[::-1] - sums
    fits = np.flatnonzero((above <= budget) & (counts > 0))
    if len(fits) == 0:
        return math.inf
    bin_ = int(fits[0])
    lower = _lower_counts(bin_, passes)
    places = np.flatnonzero(lower)
    values_of_bin = from_sortable((np.uint32(bin_ << 16) | places).astype(np.uint32))
    held = np.rint(values_of_bin.astype(np.float64) / _GRAIN) * lower[places]
    from_here = np.cumsum(held[::-1])[::-1] + above[bin_]
    kept = np.flatnonzero(from_here > budget)
    return float(values_of_bin[kept[-1]]) if len(kept) else -math.inf


def sortable(values: FloatArray) -> NDArray[np.uint32]:
    """Bit patterns that sort as the floats do, negative ones included."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)


def from_sortable(bits: NDArray[np.uint32]) -> FloatArray:
    """Inverse of ``sortable``."""
    return np.where(bits >> 31 == 1, bits & np.uint32(0x7FFFFFFF), ~bits).astype(np.uint32).view(np.float32)


def _upper_counts(passes: Passes) -> NDArray[np.int64]:
    upper = np.zeros(_BINS, dtype=np.int64)
    for values in passes():
        upper += np.bincount(sortable(values) >> 16, minlength=_BINS)
    return upper


def _lower_counts(bin_: int, passes: Passes) -> NDArray[np.int64]:
    lower = np.zeros(_BINS, dtype=np.int64)
    for values in passes():
        bits = sortable(values)
        lower += np.bincount(bits[bits >> 16 == bin_] & 0xFFFF, minlength=_BINS)
    return lower


def _value_at(rank: int, upper: NDArray[np.int64], passes: Passes) -> float:
    """The value of a rank in ascending order, counted from 0."""
    bin_ = int(np.searchsorted(np.cumsum(upper), rank, side="right"))
    lower = _lower_counts(bin_, passes)
    low = int(np.searchsorted(np.cumsum(lower), rank - int(upper[:bin_].sum()), side="right"))
    return float(from_sortable(np.array([bin_ << 16 | low], dtype=np.uint32))[0])
