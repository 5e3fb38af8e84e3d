"""Drift on the page: KL against forgetting over all training runs, and what training did to the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokensieve.analysis.results import WeightUpdate
from tokensieve.metrics import LEAST_GROUPS, LEAST_RUNS, Estimate, rank_correlation
from tokensieve.report import number_format, plots
from tokensieve.report.plots.drift import DriftPoint
from tokensieve.report.results_schema import DriftSet
from tokensieve.report.schema import ArmReport, Report, TargetReport

_WIDE, _HALF, _NARROW = 1080.0, 592.0, 350.0


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
        rows=tuple(_drift_rows(report)),
    )


def _drift_rows(report: Report) -> Iterator[DriftRow]:
    """One row for each arm and set."""
    for target in report.targets:
        for arm in target.arms:
            names = dict.fromkeys(one.name for run in arm.runs for one in run.drift_sets)
            for name in names:
                sets = [one for run in arm.runs for one in run.drift_sets if one.name == name]
                yield _drift_row(target.title or target.task, arm.name, name, sets)


def _drift_row(target: str, arm: str, name: str, sets: Sequence[DriftSet]) -> DriftRow:
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


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """An arm's update, the mean over its seeds.

    Attributes:
        arm: the arm.
        style: its mark.
        norm: Frobenius norm.
        relative_norm: that over the norm of the base's weights; None where it is not known.
        rank: effective rank, the mean over matrices.
        kinds: kind of module, its norm and its effective rank, the largest norm first.
    """

    arm: ArmReport
    style: plots.ArmStyle
    norm: float
    relative_norm: float | None
    rank: float | None
    kinds: tuple[tuple[str, float, float | None], ...]


@dataclass(frozen=True, slots=True)
class UpdateView:
    """One target's updates."""

    title: str
    rows: tuple[UpdateRow, ...]
    picture: plots.Pair | None


def update_section(report: Report) -> tuple[UpdateView, ...]:
    """The updates of every target whose runs were measured; empty where none was."""
    views = (_update_view(target) for target in report.targets)
    return tuple(view for view in views if view.rows)


def _update_view(target: TargetReport) -> UpdateView:
    styles = plots.arm_styles(target.arms)
    updates = {arm.name: [run.update for run in arm.runs if run.update is not None] for arm in target.arms}
    rows = tuple(_update_row(arm, styles[arm.name], updates[arm.name]) for arm in target.arms if updates[arm.name])
    lines = {name: _mean_spectrum(found) for name, found in updates.items() if found}
    wide, narrow = (plots.spectra(lines, styles, width) for width in (_HALF, _NARROW))
    return UpdateView(target.title or target.task, rows, plots.Pair(wide, narrow) if wide and narrow else None)


def _update_row(arm: ArmReport, style: plots.ArmStyle, updates: Sequence[WeightUpdate]) -> UpdateRow:
    kinds: dict[str, list[tuple[float, float | None]]] = {}
    for update in updates:
        for one in update.modules:
            kinds.setdefault(one.kind, []).append((one.norm, one.effective_rank))
    listed = [
        (kind, sum(norm for norm, _ in found) / len(found), _mean([rank for _, rank in found]))
        for kind, found in kinds.items()
    ]
    return UpdateRow(
        arm=arm,
        style=style,
        norm=sum(update.norm for update in updates) / len(updates),
        relative_norm=_mean([update.relative_norm for update in updates]),
        rank=_mean([update.effective_rank for update in updates]),
        kinds=tuple(sorted(listed, key=lambda one: -one[1])),
    )


def _mean_spectrum(updates: Sequence[WeightUpdate]) -> list[float]:
    """The mean singular values over seeds; as many as the shortest list has."""
    spectra = [update.spectrum for update in updates]
    return [sum(values) / len(values) for values in zip(*spectra, strict=False)]
