"""Weight updates and diversity on the page: a table a target, and the spectra of its arms."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokensieve.analysis.results import WeightUpdate
from tokensieve.report import plots
from tokensieve.report.schema import ArmReport, Report, TargetReport

_WIDE, _NARROW = 592.0, 350.0


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
    views = (_view(target) for target in report.targets)
    return tuple(view for view in views if view.rows)


def _view(target: TargetReport) -> UpdateView:
    styles = plots.arm_styles(target.arms)
    updates = {arm.name: [run.update for run in arm.runs if run.update is not None] for arm in target.arms}
    rows = tuple(_row(arm, styles[arm.name], updates[arm.name]) for arm in target.arms if updates[arm.name])
    lines = {name: _mean_spectrum(found) for name, found in updates.items() if found}
    wide, narrow = (plots.spectra(lines, styles, width) for width in (_WIDE, _NARROW))
    return UpdateView(target.title or target.task, rows, plots.Pair(wide, narrow) if wide and narrow else None)


def _row(arm: ArmReport, style: plots.ArmStyle, updates: Sequence[WeightUpdate]) -> UpdateRow:
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_spectrum(updates: Sequence[WeightUpdate]) -> list[float]:
    """The mean singular values over seeds; as many as the shortest list has."""
    spectra = [update.spectrum for update in updates]
    return [sum(values) / len(values) for values in zip(*spectra, strict=False)]
