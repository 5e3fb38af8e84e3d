"""Pictures of drift: backward transfer against it, one mark a training run, and singular values of the updates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from tokensieve.report import number_format
from tokensieve.report.plots.canvas import Canvas, name_width
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.plots.training import end_names

_LOG_FROM: Final = 30.0
"""Ratio of the largest drift to the smallest from which on the axis is logarithmic."""
_LEAST_TICKS: Final = 3
_TOP, _RIGHT, _BOTTOM, _LEFT = 26.0, 16.0, 46.0, 46.0


@dataclass(frozen=True, slots=True)
class DriftPoint:
    """One training run.

    Attributes:
        target: title of the target.
        arm: name of the arm.
        run: which of the arm's runs, in words.
        drift: forward KL(base || model), nats per token.
        transfer: BWT, percent.
        style: of the arm.
        hollow: draw the outline of the mark only.
    """

    target: str
    arm: str
    run: str
    drift: float
    transfer: float
    style: ArmStyle
    hollow: bool = False


def drift_scatter(points: Sequence[DriftPoint], width: float) -> Markup:
    """BWT in percent against drift in nats per token; at least one point.

    The axis of drift is logarithmic where the values span more than a factor of 30.
    """
    height = min(380.0, max(300.0, width * 0.6))
    left, right, top, bottom = _LEFT, width - _RIGHT, _TOP, height - _BOTTOM
    at_x, x_ticks = _x_axis([point.drift for point in points], left, right)
    low = min(0.0, *(point.transfer for point in points))
    high = max(0.0, *(point.transfer for point in points))
    room = 0.07 * max(high - low, 5.0)
    low, high = low - room, high + room
    canvas = Canvas(width, height, "backward transfer against drift, by training run")
    for value in x_ticks:
        canvas.line(at_x(value), top, at_x(value), bottom, "grid")
        canvas.text(at_x(value), bottom + 17, f"{value:g}", "tick", "middle")
    for value in number_format.ticks(low, high, 6):
        y = bottom - (value - low) / (high - low) * (bottom - top)
        canvas.line(left, y, right, y, "grid" if value else "zero")
        canvas.text(left - 8, y + 4, number_format.tick(value), "tick", "end")
    canvas.text(right, bottom + 37, "Drift from the base, nats per token →", "axis", "end")
    canvas.text(0, 13, "↑ Backward transfer (BWT), %", "axis")
    for point in points:
        y = bottom - (point.transfer - low) / (high - low) * (bottom - top)
        tip = (
            f"{point.target}: {point.arm}, {point.run}: drift {point.drift:.3g} nats per token, "
            f"BWT {number_format.signed(point.transfer)} %"
        )
        kind = "dot hollow" if point.hollow else "dot"
        canvas.marker(point.style.shape, at_x(point.drift), y, 5.5, f"{kind} {point.style.colour}", tip)
    return canvas.markup()


def _x_axis(values: Sequence[float], left: float, right: float) -> tuple[Callable[[float], float], list[float]]:
    """Drift to pixel, and the ticks."""
    least, most = min(values), max(values)
    if least > 0 and most / least > _LOG_FROM:
        first, last = math.log10(least) - 0.1, math.log10(most) + 0.1
        decades = [10.0**power for power in range(math.floor(first), math.ceil(last) + 1)]
        ticks = [value for value in decades if first <= math.log10(value) <= last]
        return lambda value: left + (math.log10(value) - first) / (last - first) * (right - left), ticks
    end = max(most, 0.0) * 1.07 or 1.0
    start = min(0.0, least)
    span = end - start
    return lambda value: left + (value - start) / span * (right - left), number_format.ticks(
        start, end, 6 if right - left > 400 else 4
    )


def spectra(lines: Mapping[str, Sequence[float]], styles: Mapping[str, ArmStyle], width: float) -> Markup | None:
    """Singular values by their number on a logarithmic axis; None where no arm has two above 0.

    Args:
        lines: by arm, the mean singular values over matrices and seeds, descending.
        styles: of the arms.
        width: in pixels.
    """
    shown = {name: [value for value in line if value > 0] for name, line in lines.items()}
    shown = {name: line for name, line in shown.items() if len(line) > 1}
    if not shown:
        return None
    height, top, bottom, left = 250.0, 24.0, 206.0, 44.0
    right = width - 20 - name_width(list(shown))
    values = [value for line in shown.values() for value in line]
    low, high = math.log10(min(values)), math.log10(max(values))
    # A tail of rounding errors would squeeze all that matters.
    low = max(low, high - 4.0)
    low, high = low - 0.1, max(high, low + 0.5) + 0.1
    last = max(len(line) for line in shown.values())
    canvas = Canvas(width, height, "singular values of the weight update, by arm")

    def at(place: int, value: float) -> tuple[float, float]:
        share = (math.log10(value) - low) / (high - low)
        return left + (place - 1) / (last - 1) * (right - left), bottom - max(0.0, share) * (bottom - top)

    for value in log_ticks(low, high):
        y = at(1, value)[1]
        canvas.line(left, y, right, y, "grid")
        canvas.text(left - 7, y + 4, f"{value:g}", "tick", "end")
    canvas.line(left, bottom, right, bottom, "ground")
    for place in (1, *range(4, last + 1, 4)):
        canvas.text(at(place, 10.0**high)[0], bottom + 18, str(place), "tick", "middle")
    canvas.text(0, 12, "Singular value, mean over matrices", "axis")
    canvas.text(right, bottom + 38, "number of the singular value →", "axis", "end")
    ends = []
    for name, line in shown.items():
        points = [at(place, value) for place, value in enumerate(line, start=1)]
        canvas.polyline(points, f"curve {styles[name].colour}", name)
        ends.append(points[-1])
    end_names(canvas, list(shown), ends, right, (top, bottom), styles)
    return canvas.markup()


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two logarithms; with 2 and 5 times them where there are fewer than three."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    found: list[float] = []
    for factors in ((1,), (1, 2, 5)):
        found = [f * 10.0**power for power in powers for f in factors if low <= math.log10(f * 10.0**power) <= high]
        if len(found) >= _LEAST_TICKS:
            break
    return found
