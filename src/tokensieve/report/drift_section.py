"""Drift against forgetting: every training run of a study as a point, their rank correlation, and what that says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokensieve.metrics import LEAST_GROUPS, LEAST_RUNS, Estimate, rank_correlation
from tokensieve.report import number_format, plots
from tokensieve.report.plots.drift import DriftPoint
from tokensieve.report.schema import DriftSet, Report

_WIDE, _NARROW = 1080.0, 350.0


@dataclass(frozen=True, slots=True)
class DriftSection:
    """The section of the page.

    Attributes:
        picture: BWT against drift.
        styles: mark of each arm that is in the picture, by its name.
        hollow: title of the targets whose marks are hollow; empty where there is one target.
        sentences: what the points say.
        rows: drift of each arm by set of rows.
    """

    picture: plots.Pair
    styles: dict[str, plots.ArmStyle]
    hollow: str
    sentences: tuple[str, ...]
    rows: tuple["DriftRow", ...] = ()


@dataclass(frozen=True, slots=True)
class DriftRow:
    """Drift of an arm on one set of rows, the mean over its runs.

    Attributes:
        target: title of the target.
        arm: its name.
        name: of the set.
        kl: nats per token.
        spread: 95 % interval of a single run, or the range over several.
        nll_change: nats per token.
        perplexity: under the base and after training.
    """

    target: str
    arm: str
    name: str
    kl: str
    spread: str
    nll_change: str
    perplexity: str


def drift_section(report: Report) -> DriftSection | None:
    """Drift against BWT over all runs of the study; None where no run has both."""
    points = drift_points(report)
    if not points:
        return None
    styles = {point.arm: point.style for point in points}
    titles = [target.title or target.task for target in report.targets]
    return DriftSection(
        picture=plots.Pair(plots.drift_scatter(points, _WIDE), plots.drift_scatter(points, _NARROW)),
        styles=styles,
        hollow=", ".join(titles[1:]),
        sentences=tuple(_sentences(points)),
        rows=tuple(_rows(report)),
    )


def _rows(report: Report) -> Iterator[DriftRow]:
    """One row for each arm and set."""
    for target in report.targets:
        for arm in target.arms:
            names = dict.fromkeys(one.name for run in arm.runs for one in run.drift_sets)
            for name in names:
                sets = [one for run in arm.runs for one in run.drift_sets if one.name == name]
                yield _row(target.title or target.task, arm.name, name, sets)


def _row(target: str, arm: str, name: str, sets: Sequence[DriftSet]) -> DriftRow:
    values = [one.kl.value for one in sets if one.kl.value is not None]
    ends = [min(values), max(values)] if len(values) > 1 else [sets[0].kl.low, sets[0].kl.high]
    spread = "" if None in ends else " to ".join(number_format.number(end, 4) for end in ends)
    before, after = (_mean([getattr(one, key) for one in sets]) for key in ("base_perplexity", "tuned_perplexity"))
    return DriftRow(
        target,
        arm,
        name,
        number_format.number(_mean(values), 4),
        spread,
        number_format.signed(_mean([one.nll_change.value for one in sets]), 4),
        f"{number_format.perplexity(before)} → {number_format.perplexity(after)}",
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def drift_points(report: Report) -> list[DriftPoint]:
    """Every run that has both drift and BWT; of learning rates that were not chosen one point each, over all seeds."""
    points = []
    for place, target in enumerate(report.targets):
        styles, title, hollow = plots.arm_styles(target.arms), target.title or target.task, place > 0
        for arm in target.arms:
            style = styles[arm.name]
            found = [(f"seed {run.seed}", run.drift, run.backward_transfer) for run in arm.runs]
            frontier = target.frontier_of(arm.name)
            found += [
                (f"rate {number_format.learning_rate(one.learning_rate)}", one.drift, one.backward_transfer.value)
                for one in (frontier.points if frontier else ())
                if not one.chosen
            ]
            points += [
                DriftPoint(title, arm.name, run, drift, transfer, style, hollow)
                for run, drift, transfer in found
                if drift is not None and transfer is not None
            ]
    return points


def correlation(points: Sequence[DriftPoint]) -> Estimate:
    """Spearman's rank correlation of drift and BWT; the runs of one arm on one target are alike."""
    return rank_correlation(
        [point.drift for point in points],
        [point.transfer for point in points],
        [f"{point.target}\0{point.arm}" for point in points],
    )


def _sentences(points: Sequence[DriftPoint]) -> list[str]:
    if len(points) < LEAST_RUNS:
        runs = number_format.count(len(points), "run")
        return [
            f"{runs} with both numbers: too few to say whether drift tells what is forgotten ({LEAST_RUNS} at least)."
        ]
    said = [_sentence(points, "")]
    targets = list(dict.fromkeys(point.target for point in points))
    if len(targets) > 1:
        said += [_sentence(own, t) for t in targets if len(own := [p for p in points if p.target == t]) >= LEAST_RUNS]
    return said


def _sentence(points: Sequence[DriftPoint], target: str) -> str:
    found = correlation(points)
    arms = len({(point.target, point.arm) for point in points})
    where = f"{target}: over" if target else "Over"
    over = f"{where} {len(points)} runs of {number_format.count(arms, 'arm')}"
    if found.value is None:
        return f"{over} one of the two numbers is the same everywhere, so that there is no correlation."
    ends = f" ({number_format.interval(found, 2)})" if found.interval else ""
    head = f"{over} the rank correlation of drift and BWT is {number_format.signed(found.value, 2)}{ends}"
    if found.low is None or found.high is None:
        return f"{head}, without an interval: {arms} arms are fewer than {LEAST_GROUPS}, and an arm's seeds are alike."
    if found.high < 0:
        return f"{head}: models that moved further forgot more."
    if found.low > 0:
        return f"{head}: here models that moved further forgot less, so drift does not stand in for the benchmarks."
    return f"{head}: the interval holds 0, so these runs do not show that drift tells what is forgotten."
