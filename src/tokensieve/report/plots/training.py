"""Of the training sets: response tokens by perplexity, what was left out of them, and the loss while training."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from tokensieve.analysis.results import Profile
from tokensieve.report import number_format
from tokensieve.report.plots.canvas import Anchor, Canvas, name_width
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.results_schema import SeedRun
from tokensieve.report.schema import ArmReport

_DECADES: Final = {1: "1", 10: "10", 100: "100", 1000: "1k", 10_000: "10k", 100_000: "100k", 1_000_000: "1M"}
_CURVE_POINTS: Final = 60
"""A curve is drawn through at most as many means as this."""
_TAIL: Final = 0.002
"""Share of the tokens that the last bar may gather from beyond a histogram's axis."""


def histogram(
    name: str, profile: Profile, decades: int, top: float, *, show_threshold: bool = True, width: float = 320.0
) -> Markup:
    """Response tokens by perplexity on a logarithmic axis; full bars are trained, hatched ones are left out.

    The first bar holds most tokens of any data set and would flatten the others, so it is cut and says its height.

    Args:
        name: of the arm.
        profile: its training set.
        decades: powers of ten that the axis spans, so that pictures beside each other share it.
        top: share of the tokens at the upper end, shared likewise.
        show_threshold: draw the line above which tokens are left out.
        width: in pixels.
    """
    height, base, left, right = 190.0, 162.0, 8.0, width - 8.0
    canvas = Canvas(width, height, f"{name}: response tokens by perplexity")
    total = max(1, profile.scored_tokens)
    for exponent in range(decades + 1):
        x = left + exponent / decades * (right - left)
        canvas.line(x, 14, x, base, "grid")
        anchor: Anchor = "start" if exponent == 0 else "end" if exponent == decades else "middle"
        more = "+" if exponent == decades and any(profile.histogram.counts[10 * decades :]) else ""
        canvas.text(x, base + 17, _DECADES[10**exponent] + more, "tick", anchor)
    edges, bins = profile.histogram.edges, _within(profile, decades)
    for low, count, trained in bins:
        x1, x2 = (left + math.log10(e) / decades * (right - left) for e in (low, low * edges[1] / edges[0]))
        share = number_format.percent(count / total, 1)
        tip = f"perplexity from {number_format.perplexity(low)}: {share} of the response tokens"
        full = min(1.0, count / total / top)
        kept = full * trained / count if count else 0.0
        tall = base - 24
        canvas.rect(x1 + 0.6, base - tall * full, x2 - x1 - 1.2, tall * (full - kept), "bar left-out", tip)
        canvas.rect(x1 + 0.6, base - tall * kept, x2 - x1 - 1.2, tall * kept, "bar trained", tip)
        if count / total > top:
            canvas.polyline([(x1 - 2, 36), (x2 + 2, 30)], "break")
            canvas.polyline([(x1 - 2, 41), (x2 + 2, 35)], "break")
            canvas.text(x2 + 6, 36, f"{number_format.percent(count / total)} nearly certain", "note")
    canvas.line(left, base, right, base, "ground")
    if show_threshold and profile.threshold is not None and 1 <= profile.threshold <= 10**decades:
        x = left + math.log10(profile.threshold) / decades * (right - left)
        canvas.line(x, 50, x, base, "threshold")
        canvas.text(x + 5, 60, f"threshold {number_format.perplexity(profile.threshold)}", "note")
    return canvas.markup()


def histogram_scale(profiles: Sequence[Profile]) -> tuple[int, float]:
    """Decades and upper end for histograms beside each other: the first bar cut, nearly all tokens within."""
    last = max((_bins_of_all_but(_TAIL, p.histogram.counts) for p in profiles), default=1)
    decades = min(6, max(2, math.ceil(last / 10)))
    shares = [count / max(1, p.scored_tokens) for p in profiles for count in p.histogram.counts[1:]]
    return decades, max(0.02, 1.25 * max(shares, default=0.1))


def left_out_bar(share: float | None, kind: str, width: float = 120.0) -> Markup:
    """A share of a whole as a bar, for a table's cell."""
    canvas = Canvas(width, 10, f"{number_format.percent(share)} left out")
    canvas.rect(0, 2, width, 6, "bar-ground")
    canvas.rect(0, 2, width * (share or 0.0), 6, f"bar {kind}")
    return canvas.markup()


def curves(arms: Sequence[ArmReport], styles: Mapping[str, ArmStyle], width: float) -> Markup | None:
    """Training loss by step, one line an arm (the mean over seeds), smoothed; None where nothing was logged."""
    lines = {arm.name: _smooth(arm.runs) for arm in arms}
    lines = {name: line for name, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    height, top, bottom, left = 280.0, 24.0, 236.0, 36.0
    right = width - 20 - name_width(list(lines))
    last = max(step for line in lines.values() for step, _ in line)
    peak = max(loss for line in lines.values() for _, loss in line) * 1.05 or 1.0
    canvas = Canvas(width, height, "training loss by step, by arm")
    for value in number_format.ticks(0, peak, 5):
        y = bottom - value / peak * (bottom - top)
        canvas.line(left, y, right, y, "grid" if value else "ground")
        canvas.text(left - 7, y + 4, f"{value:g}", "tick", "end")
    for value in number_format.ticks(0, last, 5):
        canvas.text(left + value / last * (right - left), bottom + 18, number_format.number(value), "tick", "middle")
    canvas.text(0, 12, "Loss, nats per trained token", "axis")
    canvas.text(right, bottom + 38, "step →", "axis", "end")
    ends: list[tuple[float, float]] = []
    for name, line in lines.items():
        points = [(left + s / last * (right - left), bottom - v / peak * (bottom - top)) for s, v in line]
        canvas.polyline(points, f"curve {styles[name].colour}", name)
        ends.append(points[-1])
    end_names(canvas, list(lines), ends, right, (top, bottom), styles)
    return canvas.markup()


def end_names(
    canvas: Canvas,
    names: Sequence[str],
    ends: Sequence[tuple[float, float]],
    right: float,
    span: tuple[float, float],
    styles: Mapping[str, ArmStyle],
) -> None:
    """Names at the ends of lines, moved apart where the ends lie close together."""
    gap = 16.0
    order = sorted(range(len(names)), key=lambda index: ends[index][1])
    heights = [ends[index][1] for index in order]
    for place_ in range(1, len(heights)):
        heights[place_] = max(heights[place_], heights[place_ - 1] + gap)
    overshoot = max(0.0, heights[-1] - span[1])
    heights = [y - overshoot for y in heights]
    for place_ in range(len(heights) - 2, -1, -1):
        heights[place_] = min(heights[place_], heights[place_ + 1] - gap)
    for index, y in zip(order, heights, strict=True):
        x, end = ends[index]
        style = styles[names[index]]
        canvas.polyline([(x, end), (right + 6, y), (right + 10, y)], f"end {style.colour}")
        canvas.text(right + 14, y + 4, names[index], f"name {style.colour}")


def _smooth(runs: Sequence[SeedRun]) -> list[tuple[float, float]]:
    """The mean loss over seeds, in at most 60 groups of consecutive steps."""
    by_step: dict[int, list[float]] = {}
    for run in runs:
        for point in run.curve:
            by_step.setdefault(point.step, []).append(point.loss)
    steps = sorted(by_step)
    size = max(1, math.ceil(len(steps) / _CURVE_POINTS))
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    return [
        (sum(group) / len(group), sum(sum(by_step[s]) / len(by_step[s]) for s in group) / len(group))
        for group in groups
    ]


def _within(profile: Profile, decades: int) -> list[tuple[float, int, int]]:
    """Lower edge, tokens and trained tokens of each bin that the axis holds; what lies beyond is in the last."""
    histogram_ = profile.histogram
    rows = list(zip(histogram_.edges, histogram_.counts, histogram_.trained, strict=False))
    inside = [row for row in rows if row[0] < 10**decades * 0.999]
    beyond = rows[len(inside) :]
    if beyond:
        low, count, trained = inside[-1]
        inside[-1] = (low, count + sum(r[1] for r in beyond), trained + sum(r[2] for r in beyond))
    return inside


def _bins_of_all_but(tail: float, counts: Sequence[int]) -> int:
    """Number of the first bins that hold all tokens but a share of ``tail``."""
    allowed = tail * sum(counts)
    beyond = 0
    for index in range(len(counts) - 1, -1, -1):
        beyond += counts[index]
        if beyond > allowed:
            return index + 1
    return 0
