"""Frontier plot: the target against backward transfer, each arm's learning rates joined by a line."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from tokensieve.metrics import Estimate
from tokensieve.report import number_format
from tokensieve.report.plots.canvas import Axis, Box, Canvas, Name, whisker_boxes, write_names
from tokensieve.report.plots.scatter import scatter
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.results_schema import FrontierPoint, TaskResult
from tokensieve.report.schema import TargetReport

_REACH = 0.3
"""Share of the values' own span that intervals may add to an axis; longer ones are cut."""
_TOP, _RIGHT, _BOTTOM, _LEFT = 26.0, 16.0, 46.0, 46.0
_SIZES: Final = (4.0, 7.0)
"""Radius of the mark of the lowest and of the highest rate."""
_BASE: Final = "base model"


@dataclass(frozen=True, slots=True)
class _Measure:
    """The measure of the target on the y axis: accuracy in percent, or nll in nats, whose low values are on top."""

    nats: bool

    @property
    def label(self) -> str:
        """Text beside the axis."""
        return "↑ Nll of the target, nats per token (lower on top)" if self.nats else "↑ Accuracy on the target, %"

    def of(self, point: FrontierPoint) -> Estimate:
        """A point's value."""
        return point.target_nll if self.nats else _scaled(point.target_accuracy)

    def of_base(self, result: TaskResult | None) -> float | None:
        """The base's value."""
        if result is None:
            return None
        return result.nll.value if self.nats else _scaled(result.accuracy).value

    def words(self, estimate: Estimate) -> str:
        """A value with its interval, for a hint."""
        if self.nats:
            ends = number_format.interval(estimate, 3, signs=False)
            return f"nll {number_format.number(estimate.value, 3)}{f' ({ends})' if ends else ''} nats"
        ends = number_format.interval(estimate, 0, signs=False)
        return f"target {number_format.number(estimate.value, 1)}\u202f%{f' ({ends})' if ends else ''}"

    def axis(self, values: Sequence[float], intervals: Sequence[Estimate], top: float, bottom: float) -> Axis:
        """Values to pixels."""
        if self.nats:
            return _axis(values, intervals, top, bottom, least=0.05, within=(0.0, float("inf")))
        return _axis(values, intervals, bottom, top, least=5.0, within=(0.0, 100.0))

    def ticks(self, axis: Axis) -> list[float]:
        """Round values on the axis that a target can have."""
        return number_format.ticks(max(0.0, axis.low), axis.high if self.nats else min(100.0, axis.high), 6)


@dataclass(frozen=True, slots=True)
class _Mark:
    """One point of the picture."""

    arm: str
    style: ArmStyle
    point: FrontierPoint
    learnt: Estimate
    x: float
    y: float
    size: float


def target_picture(target: TargetReport, styles: dict[str, ArmStyle], width: float) -> Markup | None:
    """The picture of a target's arms, learnt against kept: their frontiers, or one point an arm of one rate."""
    return frontier(target, styles, width) if target.frontier else scatter(target, styles, width)


def frontier(target: TargetReport, styles: dict[str, ArmStyle], width: float) -> Markup | None:
    """The target against BWT in percent, one mark an arm and learning rate; None without a point.

    The target is its accuracy in percent, or its nll in nats per token where it is measured by likelihood, lower values
    higher up. The mark of an arm's own best rate is filled and has its intervals; the higher the rate, the larger the
    mark.
    """
    measure = _Measure(target.by_likelihood)
    points = [point for one in target.frontier for point in one.points if _shown(point, measure)]
    if not points:
        return None
    height = min(460.0, max(360.0, width * 0.78))
    base = measure.of_base(target.base_result(target.task))
    chosen = [point for point in points if point.chosen]
    transfers = [point.backward_transfer.value or 0.0 for point in points]
    x_axis = _axis([0.0, *transfers], [point.backward_transfer for point in chosen], _LEFT, width - _RIGHT)
    values = [measure.of(point).value or 0.0 for point in points] + ([] if base is None else [base])
    y_axis = measure.axis(values, [measure.of(point) for point in chosen], _TOP, height - _BOTTOM)
    label = "nll of the target" if measure.nats else "accuracy on the target"
    canvas = Canvas(width, height, f"{target.task}: {label} against backward transfer, by learning rate")
    _frame(canvas, measure, x_axis, y_axis, base)
    rates = sorted({point.learning_rate for point in points})
    lines = [_marks(one.points, one.arm, styles[one.arm], measure, (x_axis, y_axis), rates) for one in target.frontier]
    for line in lines:
        if len(line) > 1:
            canvas.polyline([(mark.x, mark.y) for mark in line], f"path {line[0].style.colour}")
    everything = [mark for line in lines for mark in line]
    for mark in everything:
        if mark.point.chosen:
            _whiskers(canvas, mark, x_axis, y_axis)
    for mark in sorted(everything, key=lambda mark: mark.point.chosen):  # the chosen ones lie on top
        kind = "dot" if mark.point.chosen else "dot hollow"
        canvas.marker(mark.style.shape, mark.x, mark.y, mark.size, f"{kind} {mark.style.colour}", _tip(mark, measure))
    base_at = None if base is None else (x_axis.clipped(0.0), y_axis.clipped(base))
    if base_at is not None:
        canvas.marker("circle", *base_at, 5, "dot base-dot", f"base model: {measure.words(Estimate(value=base))}")
    _names(canvas, lines, base_at, x_axis, y_axis)
    return canvas.markup()


def _shown(point: FrontierPoint, measure: _Measure) -> bool:
    return measure.of(point).defined and point.backward_transfer.defined


def _tip(mark: _Mark, measure: _Measure) -> str:
    """A mark's meaning in words."""
    rate, transfer = number_format.learning_rate(mark.point.learning_rate), mark.point.backward_transfer
    return f"{mark.arm} at {rate}: {measure.words(mark.learnt)}, BWT {number_format.change(transfer, '%')}"


def _scaled(fraction: Estimate) -> Estimate:
    """A fraction in percent."""
    value, low, high = (None if end is None else 100 * end for end in (fraction.value, fraction.low, fraction.high))
    return Estimate(value=value, low=low, high=high)


def _axis(
    values: Sequence[float],
    intervals: Sequence[Estimate],
    start: float,
    end: float,
    least: float = 5.0,
    within: tuple[float, float] = (float("-inf"), float("inf")),
) -> Axis:
    """An axis over all values, and over the intervals as far as they do not squeeze the values together."""
    low, high = min(values), max(values)
    reach = _REACH * max(high - low, least)
    low, high = (
        min([low, *(max(one.low, low - reach) for one in intervals if one.low is not None)]),
        max([high, *(min(one.high, high + reach) for one in intervals if one.high is not None)]),
    )
    room = 0.07 * max(high - low, least)
    return Axis(max(low - room, within[0] - room), min(high + room, within[1] + room), start, end)


def _frame(canvas: Canvas, measure: _Measure, x_axis: Axis, y_axis: Axis, base: float | None) -> None:
    left, right = x_axis.start, x_axis.end
    top, bottom = sorted((y_axis.start, y_axis.end))
    if base is not None:
        canvas.rect(x_axis.clipped(0), top, right - x_axis.clipped(0), y_axis.clipped(base) - top, "good")
    for value in number_format.ticks(x_axis.low, x_axis.high, 6 if right - left > 400 else 4):
        canvas.line(x_axis.clipped(value), top, x_axis.clipped(value), bottom, "grid" if value else "zero")
        canvas.text(x_axis.clipped(value), bottom + 17, number_format.tick(value), "tick", "middle")
    for value in measure.ticks(y_axis):
        canvas.line(left, y_axis.clipped(value), right, y_axis.clipped(value), "grid")
        canvas.text(left - 8, y_axis.clipped(value) + 4, f"{value:g}", "tick", "end")
    if base is not None:
        canvas.line(left, y_axis.clipped(base), right, y_axis.clipped(base), "zero")
    canvas.text(right, bottom + 37, "Backward transfer (BWT), % →", "axis", "end")
    canvas.text(0, 13, measure.label, "axis")


def _marks(
    points: Sequence[FrontierPoint],
    arm: str,
    style: ArmStyle,
    measure: _Measure,
    axes: tuple[Axis, Axis],
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
            measure.of(point),
            axes[0].clipped(point.backward_transfer.value or 0.0),
            axes[1].clipped(measure.of(point).value or 0.0),
            small + step * rates.index(point.learning_rate),
        )
        for point in points
        if _shown(point, measure)
    ]


def _whiskers(canvas: Canvas, mark: _Mark, x_axis: Axis, y_axis: Axis) -> None:
    """Both intervals of a chosen point."""
    across, upwards = x_axis.ends(mark.point.backward_transfer), y_axis.ends(mark.learnt)
    if across is not None:
        canvas.line(across[0], mark.y, across[1], mark.y, f"whisker {mark.style.colour}")
    if upwards is not None:
        canvas.line(mark.x, upwards[0], mark.x, upwards[1], f"whisker {mark.style.colour}")


def _names(
    canvas: Canvas,
    lines: Sequence[Sequence[_Mark]],
    base: tuple[float, float] | None,
    x_axis: Axis,
    y_axis: Axis,
) -> None:
    """Each arm's name beside its chosen point, where it hides nothing."""
    named = [next((mark for mark in line if mark.point.chosen), line[-1]) for line in lines if line]
    names = [Name(mark.x, mark.y, mark.arm, f"name {mark.style.colour}") for mark in named]
    obstacles = [Box(mark.x - 7, mark.y - 7, mark.x + 7, mark.y + 7) for line in lines for mark in line]
    if base is not None:
        names.append(Name(*base, _BASE, "name base-name"))
        obstacles.append(Box(base[0] - 6, base[1] - 6, base[0] + 6, base[1] + 6))
    for mark in named:
        across, upwards = x_axis.ends(mark.point.backward_transfer), y_axis.ends(mark.learnt)
        obstacles += whisker_boxes(mark.x, mark.y, across, upwards)
    for line in lines:
        for one, other in itertools.pairwise(line):
            obstacles += [_near(one, other, share / 8) for share in range(1, 8)]
    top, bottom = sorted((y_axis.start, y_axis.end))
    write_names(canvas, names, obstacles, Box(x_axis.start + 2, top + 2, x_axis.end, bottom - 4))


def _near(one: _Mark, other: _Mark, share: float) -> Box:
    """A small box on the line between two marks."""
    x, y = one.x + share * (other.x - one.x), one.y + share * (other.y - one.y)
    return Box(x - 3, y - 3, x + 3, y + 3, 0.5)
