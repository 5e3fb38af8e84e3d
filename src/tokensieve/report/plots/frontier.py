"""Frontier plot: accuracy on the target against backward transfer, each arm's learning rates joined by a line."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from tokensieve.metrics import Estimate
from tokensieve.report import number_format
from tokensieve.report.plots.canvas import Axis, Box, Canvas, place, text_width
from tokensieve.report.plots.scatter import scatter
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.results_schema import FrontierPoint
from tokensieve.report.schema import TargetReport

_FONT = 12.5
_REACH = 0.3
"""Share of the values' own span that intervals may add to an axis; longer ones are cut."""
_TOP, _RIGHT, _BOTTOM, _LEFT = 26.0, 16.0, 46.0, 46.0
_SIZES: Final = (4.0, 7.0)
"""Radius of the mark of the lowest and of the highest rate."""
_BASE: Final = "base model"


@dataclass(frozen=True, slots=True)
class _Mark:
    """One point of the picture."""

    arm: str
    style: ArmStyle
    point: FrontierPoint
    x: float
    y: float
    size: float

    @property
    def tip(self) -> str:
        """Its meaning in words."""
        accuracy, transfer = self.point.target_accuracy, self.point.backward_transfer
        told = f"{self.arm} at {number_format.learning_rate(self.point.learning_rate)}"
        ends = number_format.interval(accuracy, 0, 100, signs=False)
        value = f"{number_format.percent(accuracy.value, 1)}{f' ({ends})' if ends else ''}"
        return f"{told}: target {value}, BWT {number_format.change(transfer, '%')}"


def target_picture(target: TargetReport, styles: dict[str, ArmStyle], width: float) -> Markup | None:
    """The picture of a target's arms, learnt against kept: their frontiers, or one point an arm of one rate."""
    return frontier(target, styles, width) if target.frontier else scatter(target, styles, width)


def frontier(target: TargetReport, styles: dict[str, ArmStyle], width: float) -> Markup | None:
    """Accuracy on the target against BWT, both in percent, one mark an arm and learning rate; None without a point.

    The mark of an arm's own best rate is filled and has its intervals; the higher the rate, the larger the mark.
    """
    points = [point for one in target.frontier for point in one.points if _shown(point)]
    if not points:
        return None
    height = min(460.0, max(360.0, width * 0.78))
    base = target.base_result(target.task)
    base_value = None if base is None or base.accuracy.value is None else 100 * base.accuracy.value
    chosen = [point for point in points if point.chosen]
    transfers = [point.backward_transfer.value or 0.0 for point in points]
    x_axis = _axis([0.0, *transfers], [point.backward_transfer for point in chosen], _LEFT, width - _RIGHT)
    accuracies = [_scaled(point.target_accuracy) for point in points]
    own = [_scaled(point.target_accuracy) for point in chosen]
    values = [accuracy.value or 0.0 for accuracy in accuracies] + ([] if base_value is None else [base_value])
    y_axis = _axis(values, own, height - _BOTTOM, _TOP, within=(0.0, 100.0))
    canvas = Canvas(width, height, f"{target.task}: accuracy on the target against backward transfer, by learning rate")
    _frame(canvas, x_axis, y_axis, base_value)
    marks = [_marks(one.points, one.arm, styles[one.arm], x_axis, y_axis, _rates(points)) for one in target.frontier]
    for line in marks:
        if len(line) > 1:
            canvas.polyline([(mark.x, mark.y) for mark in line], f"path {line[0].style.colour}")
    everything = [mark for line in marks for mark in line]
    for mark in everything:
        if mark.point.chosen:
            _whiskers(canvas, mark, x_axis, y_axis)
    for mark in sorted(everything, key=lambda mark: mark.point.chosen):  # the chosen ones lie on top
        kind = "dot" if mark.point.chosen else "dot hollow"
        canvas.marker(mark.style.shape, mark.x, mark.y, mark.size, f"{kind} {mark.style.colour}", mark.tip)
    base_at = None if base_value is None else (x_axis.clipped(0.0), y_axis.clipped(base_value))
    if base_at is not None:
        canvas.marker("circle", *base_at, 5, "dot base-dot", f"base model: target {number_format.number(base_value)} %")
    _names(canvas, marks, base_at, x_axis, y_axis)
    return canvas.markup()


def _shown(point: FrontierPoint) -> bool:
    return point.target_accuracy.defined and point.backward_transfer.defined


def _scaled(fraction: Estimate) -> Estimate:
    """A fraction in percent."""
    value, low, high = (None if end is None else 100 * end for end in (fraction.value, fraction.low, fraction.high))
    return Estimate(value=value, low=low, high=high)


def _rates(points: Sequence[FrontierPoint]) -> list[float]:
    return sorted({point.learning_rate for point in points})


def _axis(
    values: Sequence[float],
    intervals: Sequence[Estimate],
    start: float,
    end: float,
    within: tuple[float, float] = (float("-inf"), float("inf")),
) -> Axis:
    """An axis over all values, and over the intervals as far as they do not squeeze the values together."""
    low, high = min(values), max(values)
    reach = _REACH * max(high - low, 5.0)
    low, high = (
        min([low, *(max(one.low, low - reach) for one in intervals if one.low is not None)]),
        max([high, *(min(one.high, high + reach) for one in intervals if one.high is not None)]),
    )
    room = 0.07 * max(high - low, 5.0)
    return Axis(max(low - room, within[0] - room), min(high + room, within[1] + room), start, end)


def _frame(canvas: Canvas, x_axis: Axis, y_axis: Axis, base: float | None) -> None:
    left, right, top, bottom = x_axis.start, x_axis.end, y_axis.end, y_axis.start
    if base is not None:
        canvas.rect(x_axis.clipped(0), top, right - x_axis.clipped(0), y_axis.clipped(base) - top, "good")
    for value in number_format.ticks(x_axis.low, x_axis.high, 6 if right - left > 400 else 4):
        canvas.line(x_axis.clipped(value), top, x_axis.clipped(value), bottom, "grid" if value else "zero")
        canvas.text(x_axis.clipped(value), bottom + 17, number_format.signed(value, 0), "tick", "middle")
    for value in number_format.ticks(max(0.0, y_axis.low), min(100.0, y_axis.high), 6):
        canvas.line(left, y_axis.clipped(value), right, y_axis.clipped(value), "grid")
        canvas.text(left - 8, y_axis.clipped(value) + 4, number_format.number(value), "tick", "end")
    if base is not None:
        canvas.line(left, y_axis.clipped(base), right, y_axis.clipped(base), "zero")
    canvas.text(right, bottom + 37, "Backward transfer (BWT), % →", "axis", "end")
    canvas.text(0, 13, "↑ Accuracy on the target, %", "axis")


def _marks(
    points: Sequence[FrontierPoint],
    arm: str,
    style: ArmStyle,
    x_axis: Axis,
    y_axis: Axis,
    rates: Sequence[float],
) -> list[_Mark]:
    """An arm's points in order of the rate; all arms' rates decide the sizes."""
    small, large = _SIZES
    step = (large - small) / max(1, len(rates) - 1)
    return [
        _Mark(
            arm,
            style,
            point,
            x_axis.clipped(point.backward_transfer.value or 0.0),
            y_axis.clipped(100 * (point.target_accuracy.value or 0.0)),
            small + step * rates.index(point.learning_rate),
        )
        for point in points
        if _shown(point)
    ]


def _whiskers(canvas: Canvas, mark: _Mark, x_axis: Axis, y_axis: Axis) -> None:
    """Both intervals of a chosen point."""
    transfer, accuracy = mark.point.backward_transfer, _scaled(mark.point.target_accuracy)
    kind = f"whisker {mark.style.colour}"
    if transfer.low is not None and transfer.high is not None:
        canvas.line(x_axis.clipped(transfer.low), mark.y, x_axis.clipped(transfer.high), mark.y, kind)
    if accuracy.low is not None and accuracy.high is not None:
        canvas.line(mark.x, y_axis.clipped(accuracy.low), mark.x, y_axis.clipped(accuracy.high), kind)


def _names(
    canvas: Canvas,
    lines: Sequence[Sequence[_Mark]],
    base: tuple[float, float] | None,
    x_axis: Axis,
    y_axis: Axis,
) -> None:
    """Each arm's name beside its chosen point, where it hides nothing."""
    named = [next((mark for mark in line if mark.point.chosen), line[-1]) for line in lines if line]
    places = [(mark.x, mark.y, mark.arm, f"name {mark.style.colour}") for mark in named]
    obstacles = [Box(mark.x - 7, mark.y - 7, mark.x + 7, mark.y + 7) for line in lines for mark in line]
    if base is not None:
        places.append((*base, _BASE, "name base-name"))
        obstacles.append(Box(base[0] - 6, base[1] - 6, base[0] + 6, base[1] + 6))
    for mark in named:
        transfer, accuracy = mark.point.backward_transfer, _scaled(mark.point.target_accuracy)
        if transfer.low is not None and transfer.high is not None:
            obstacles.append(
                Box(x_axis.clipped(transfer.low), mark.y - 2, x_axis.clipped(transfer.high), mark.y + 2, 0.35)
            )
        if accuracy.low is not None and accuracy.high is not None:
            obstacles.append(
                Box(mark.x - 2, y_axis.clipped(accuracy.high), mark.x + 2, y_axis.clipped(accuracy.low), 0.35)
            )
    for line in lines:
        for one, other in itertools.pairwise(line):
            obstacles += [_near(one, other, share / 8) for share in range(1, 8)]
    frame = Box(x_axis.start + 2, y_axis.end + 2, x_axis.end, y_axis.start - 4)
    sizes = [(text_width(name, _FONT) + 4, _FONT + 3) for _, _, name, _ in places]
    boxes = place([(x, y) for x, y, _, _ in places], sizes, obstacles, frame)
    for (x, y, name, kind), box in zip(places, boxes, strict=True):
        near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if (near_x - x) ** 2 + (near_y - y) ** 2 > 16**2:
            canvas.line(x, y, near_x, near_y, "leader")
        canvas.text((box.left + box.right) / 2, box.bottom - 4, name, kind, "middle")


def _near(one: _Mark, other: _Mark, share: float) -> Box:
    """A small box on the line between two marks."""
    x, y = one.x + share * (other.x - one.x), one.y + share * (other.y - one.y)
    return Box(x - 3, y - 3, x + 3, y + 3, 0.5)
