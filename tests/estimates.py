"""What tests ask of an estimate."""

from tokensieve.metrics import Estimate


def ends(estimate: Estimate) -> tuple[float, float]:
    """The interval of an estimate that must have one."""
    assert estimate.interval is not None
    return estimate.interval


def holds(estimate: Estimate, truth: float) -> bool:
    """True where the interval holds the value."""
    low, high = ends(estimate)
    return low <= truth <= high
