"""An axis of a plot: values to pixels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to pixels.

    Attributes:
        low: value at the axis' start.
        high: value at its end.
        start: pixel of `low`.
        end: pixel of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """Pixel of a value, or of the axis' nearer end."""
        return self.at(min(self.high, max(self.low, value)))
