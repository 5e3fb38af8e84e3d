"""Scatter plot of backward transfer against gain on the target, one point an arm, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from tokensieve.metrics import Estimate
from tokensieve.report import number_format
from tokensieve.report.plots.canvas import Axis, Box, Canvas, Name, whisker_boxes, write_names
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.schema import ArmReport, GainUnit, TargetReport

_REACH = 0.4
"""Share of the values' own span that intervals may add to an axis; longer ones are cut."""
_TOP, _RIGHT, _BOTTOM, _LEFT = 26, 16, 46, 46

_LABELS: Final[dict[GainUnit, str]] = {
    "%": "Target improvement (TI), %",
    "points": "Gain on the target, points",
    "nats": "Fall of the target's nll, nats per token",
}


@dataclass(frozen=True, slots=True)
class _Point:
    arm: ArmReport
    gain: Estimate
    transfer: Estimate
    x: float
    y: float


def scatter(target: TargetReport, styles: dict[str, ArmStyle], width: float) -> Markup | None:
    """BWT against TI, points or the fall of the nll, with 95 % intervals; None where no arm has both numbers."""
    shown = [(arm, target.gain(arm)) for arm in target.arms if arm.backward_transfer.value is not None]
    shown = [(arm, gain) for arm, gain in shown if gain.value is not None]
    if not shown:
        return None
    height = min(440.0, max(330.0, width * 0.72))
    unit = target.gain_unit
    x_axis = _axis([gain for _, gain in shown], _LEFT, width - _RIGHT, 0.05 if unit == "nats" else 5.0)
    y_axis = _axis([arm.backward_transfer for arm, _ in shown], height - _BOTTOM, _TOP)
    points = [
        _Point(
            arm, gain, arm.backward_transfer, x_axis.at(gain.value or 0), y_axis.at(arm.backward_transfer.value or 0)
        )
        for arm, gain in shown
    ]
    canvas = Canvas(width, height, f"{target.task}: backward transfer against gain on the target, by arm")
    _frame(canvas, x_axis, y_axis, unit)
    for point in points:
        _whiskers(canvas, point, x_axis, y_axis, styles[point.arm.name].colour)
    for point in points:
        style = styles[point.arm.name]
        gain, transfer = number_format.change(point.gain, unit), number_format.change(point.transfer, "%")
        tip = f"{point.arm.name}: target {gain}, BWT {transfer}"
        canvas.marker(style.shape, point.x, point.y, 6, f"dot {style.colour}", tip)
    _names(canvas, points, x_axis, y_axis, styles)
    return canvas.markup()


def _axis(estimates: Sequence[Estimate], start: float, end: float, least: float = 5.0) -> Axis:
    """An axis over all values and 0, and over the intervals as far as they do not squeeze the values together."""
    values = [estimate.value or 0.0 for estimate in estimates]
    low, high = min(0.0, *values), max(0.0, *values)
    reach = max(high - low, least)
    furthest = _REACH * reach
    low = min([low, *(max(e.low, low - furthest) for e in estimates if e.low is not None)])
    high = max([high, *(min(e.high, high + furthest) for e in estimates if e.high is not None)])
    room = 0.07 * max(high - low, least)
    return Axis(low - room, high + room, start, end)


def _frame(canvas: Canvas, x_axis: Axis, y_axis: Axis, unit: GainUnit) -> None:
    left, right, top, bottom = x_axis.start, x_axis.end, y_axis.end, y_axis.start
    canvas.rect(x_axis.at(0), top, right - x_axis.at(0), max(0.0, y_axis.at(0) - top), "good")
    for value in number_format.ticks(x_axis.low, x_axis.high, 6 if right - left > 400 else 4):
        canvas.line(x_axis.at(value), top, x_axis.at(value), bottom, "grid" if value else "zero")
        canvas.text(x_axis.at(value), bottom + 17, number_format.tick(value), "tick", "middle")
    for value in number_format.ticks(y_axis.low, y_axis.high, 6):
        canvas.line(left, y_axis.at(value), right, y_axis.at(value), "grid" if value else "zero")
        canvas.text(left - 8, y_axis.at(value) + 4, number_format.tick(value), "tick", "end")
    canvas.text(right, bottom + 37, f"{_LABELS[unit]} →", "axis", "end")
    canvas.text(0, 13, "↑ Backward transfer (BWT), %", "axis")


def _whiskers(canvas: Canvas, point: _Point, x_axis: Axis, y_axis: Axis, colour: str) -> None:
    """The intervals as a cross; an end that lies outside the picture has no stop."""
    for estimate, axis, across in ((point.gain, x_axis, False), (point.transfer, y_axis, True)):
        if estimate.low is None or estimate.high is None:
            continue
        low, high = axis.clipped(estimate.low), axis.clipped(estimate.high)
        if across:
            canvas.line(point.x, low, point.x, high, f"whisker {colour}")
        else:
            canvas.line(low, point.y, high, point.y, f"whisker {colour}")
        for end, place_ in ((estimate.low, low), (estimate.high, high)):
            if axis.low <= end <= axis.high:
                x, y = (point.x, place_) if across else (place_, point.y)
                dx, dy = (4, 0) if across else (0, 4)
                canvas.line(x - dx, y - dy, x + dx, y + dy, f"whisker {colour}")


def _names(canvas: Canvas, points: Sequence[_Point], x_axis: Axis, y_axis: Axis, styles: dict[str, ArmStyle]) -> None:
    """Each arm's name beside its point, where it hides no other."""
    obstacles: list[Box] = [Box(p.x - 8, p.y - 8, p.x + 8, p.y + 8) for p in points]
    for p in points:
        obstacles += whisker_boxes(p.x, p.y, x_axis.ends(p.gain), y_axis.ends(p.transfer))
    names = [Name(p.x, p.y, p.arm.name, f"name {styles[p.arm.name].colour}") for p in points]
    write_names(canvas, names, obstacles, Box(x_axis.start + 2, y_axis.end + 2, x_axis.end, y_axis.start - 4))
