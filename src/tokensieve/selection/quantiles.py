"""Exact order statistics of float32 values that are streamed twice: constant memory, independent of the rows' order."""

import math
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokensieve.types import FloatArray

Passes: TypeAlias = Callable[[], Iterable[FloatArray]]
"""Starts a fresh pass over all values; called twice."""

_BINS: Final = 1 << 16
_GRAIN: Final = 2.0**-20
"""Values are summed as multiples of this, so that a sum does not depend on the order of its terms."""

# Float32 values sort like their bit patterns, so a histogram of the upper 16 bits finds the bin that holds a value,
# and one of the lower 16 bits, within that bin, the value itself.


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
