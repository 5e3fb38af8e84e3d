"""Accuracy on every task before and after: a grid of arms on a wide page, lanes on a narrow one."""

from collections.abc import Mapping
from typing import Final

from markupsafe import Markup

from tokensieve.report import number_format
from tokensieve.report.plots.canvas import Canvas, name_width, text_width
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.results_schema import TaskResult
from tokensieve.report.schema import ArmReport, TargetReport

_ROW: Final = 38
_LANE: Final = 24
_GRID_ARMS: Final = 6
_TASK_SIZE: Final = 14.0
"""Font size of a task's name, in pixels, as in the page's style sheet."""
_NUMBER: Final = 44
"""Room for a number beside a track."""


def tasks_of(target: TargetReport) -> list[str]:
    """The target first, then the others."""
    return [target.task, *target.others]


def fits_grid(target: TargetReport) -> bool:
    """True if one column an arm leaves room for a track in each; otherwise lanes serve the wide page too."""
    return sum(bool(arm.results) for arm in target.arms) <= _GRID_ARMS


def accuracy_grid(
    target: TargetReport, styles: Mapping[str, ArmStyle], names: Mapping[str, str], width: float
) -> Markup:
    """A row a task, a column an arm; in each cell the base as a tick with its interval, and what became of it."""
    arms = [arm for arm in target.arms if arm.results]
    tasks = tasks_of(target)
    left = max(150.0, max(text_width(names.get(task, task), _TASK_SIZE) for task in tasks) + 22)
    column = (width - left) / max(1, len(arms))
    canvas = Canvas(width, 40 + _ROW * len(tasks) + 24, f"{target.task}: accuracy before and after, by task and arm")
    for index, arm in enumerate(arms):
        style = styles[arm.name]
        x = left + index * column
        canvas.marker(style.shape, x + 5, 12, 5, f"dot {style.colour}")
        canvas.text(x + 17, 16.5, arm.name, f"name {style.colour}")
    for row, task in enumerate(tasks):
        y = 40 + row * _ROW
        _row_head(canvas, target, task, names, y, width)
        for index, arm in enumerate(arms):
            x = left + index * column
            _track(canvas, target, arm, task, styles[arm.name], x, x + column - _NUMBER - 22, y + _ROW / 2)
    bottom = 40 + _ROW * len(tasks)
    for index in range(len(arms)):
        x = left + index * column
        canvas.text(x, bottom + 17, "0", "tick")
        canvas.text(x + column - _NUMBER - 22, bottom + 17, "100\u202f%", "tick", "end")
    return canvas.markup()


def accuracy_lanes(
    target: TargetReport, styles: Mapping[str, ArmStyle], names: Mapping[str, str], width: float
) -> Markup:
    """The same for a narrow page: each task a block, each arm a lane in it, named at its left."""
    arms = [arm for arm in target.arms if arm.results]
    tasks = tasks_of(target)
    block = 34 + _LANE * len(arms) + 14
    left = name_width([arm.name for arm in arms]) + 14
    canvas = Canvas(width, block * len(tasks) + 8, f"{target.task}: accuracy before and after, by task and arm")
    for index, task in enumerate(tasks):
        top = index * block
        _head(canvas, target, task, names, 0, top + 18)
        for lane, arm in enumerate(arms):
            y = top + 34 + lane * _LANE + _LANE / 2
            style = styles[arm.name]
            canvas.text(0, y + 4, arm.name, f"name {style.colour}")
            _track(canvas, target, arm, task, style, left, width - _NUMBER - 4, y)
    return canvas.markup()


def _row_head(
    canvas: Canvas, target: TargetReport, task: str, names: Mapping[str, str], y: float, width: float
) -> None:
    if task == target.task:
        canvas.rect(0, y, width, _ROW, "target-row")
    else:
        canvas.line(0, y, width, y, "grid")
    _head(canvas, target, task, names, 8, y + _ROW / 2 + 4.5)


def _head(canvas: Canvas, target: TargetReport, task: str, names: Mapping[str, str], x: float, y: float) -> None:
    name = names.get(task, task)
    canvas.text(x, y, name, "task target" if task == target.task else "task")


def _track(
    canvas: Canvas,
    target: TargetReport,
    arm: ArmReport,
    task: str,
    style: ArmStyle,
    start: float,
    end: float,
    y: float,
) -> None:
    """One task under one arm, from 0 to 100 %."""
    span = end - start
    canvas.line(start, y, end, y, "track")
    base, after = target.base_result(task), arm.result(task)
    if base and base.accuracy.value is not None:
        if base.accuracy.low is not None and base.accuracy.high is not None:
            low, high = start + base.accuracy.low * span, start + base.accuracy.high * span
            canvas.rect(low, y - 7, high - low, 14, "base-band", f"base: {_told(base)}")
        canvas.line(start + base.accuracy.value * span, y - 9, start + base.accuracy.value * span, y + 9, "base")
    if after is None or after.accuracy.value is None:
        canvas.text(end + 8, y + 4, number_format.UNDEFINED, "value")
        return
    x = start + after.accuracy.value * span
    if base and base.accuracy.value is not None:
        canvas.line(start + base.accuracy.value * span, y, x, y, f"move {style.colour}")
    if after.accuracy.low is not None and after.accuracy.high is not None:
        canvas.line(
            start + after.accuracy.low * span, y, start + after.accuracy.high * span, y, f"whisker {style.colour}"
        )
    canvas.marker(style.shape, x, y, 4.5, f"dot {style.colour}", f"{arm.name}, {task}: {_told(after)}")
    canvas.text(end + 8 + _NUMBER - 10, y + 4.5, number_format.percent(after.accuracy.value), "value", "end")


def _told(result: TaskResult) -> str:
    ends = number_format.interval(result.accuracy, 0, 100, signs=False)
    share = f"{number_format.percent(result.accuracy.value, 1)} ({ends})"
    if result.nats:
        return f"1 / perplexity {share}, nll {number_format.number(result.nll.value, 3)} nats per token"
    return f"{share}, {result.outcomes.correct} of {result.outcomes.total}"
