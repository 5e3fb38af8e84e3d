"""The made-up report with a frontier of three learning rates; and one whose target is measured by likelihood.

The arms' own results, tables and runs are those of the synthetic report; each arm's frontier goes through them at its
own rate. ``python -m tests.swept_report FOLDER`` writes report.html and report.json there, ``… FOLDER likelihood`` the
other one.
"""

import math
import sys
from functools import cache
from pathlib import Path

import numpy as np
from tests.synthetic_report import synthetic_report

from tokensieve import metrics
from tokensieve.metrics import Estimate
from tokensieve.report import ArmReport, Report, TargetReport, write_report
from tokensieve.report.results_schema import LOSSES, ArmFrontier, BestWithin, FrontierPoint, Outcomes, TaskResult

RATES = (5e-5, 1e-4, 2e-4)
_CHOSEN = {"plain": 5e-5, "STM 2.5": 2e-4, "share 10 %": 1e-4, "random": 1e-4, "Self-Output": 1e-4}
_SHARES = {5e-5: 0.4, 1e-4: 0.75, 2e-4: 1.15}
"""How far a rate goes on the way from the base, to a scale on which an arm's own rate leads to its result."""


@cache
def swept_report() -> Report:
    """Two targets, five arms, three rates; plain's best is the lowest, STM's the highest."""
    report = synthetic_report()
    return report.model_copy(update={"targets": tuple(map(_swept, report.targets))})


@cache
def likelihood_report(*, swept: bool = True) -> Report:
    """One target and another skill measured by likelihood; at three rates, or at one."""
    report = swept_report() if swept else synthetic_report()
    target = report.targets[0]
    tasks = (target.task, target.others[-1])
    base = tuple(_in_nats(result, result) if result.task in tasks else result for result in target.base)
    before = {result.task: result for result in base}
    arms = tuple(
        arm.model_copy(
            update={"results": tuple(_in_nats(r, before[r.task]) if r.task in tasks else r for r in arm.results)}
        )
        for arm in target.arms
    )
    frontier = tuple(_frontier_in_nats(one, before[target.task].nll.value or 0.0) for one in target.frontier)
    changed = target.model_copy(update={"base": base, "arms": arms, "frontier": frontier})
    return report.model_copy(update={"targets": (changed,)})


def _in_nats(result: TaskResult, base: TaskResult) -> TaskResult:
    """The result as one of a task measured by likelihood: the nll of a text is -ln of the accuracy."""
    nll = {"all": _nll(result), "likely": 0.2 * _nll(result), "unlikely": 3 * _nll(result)}
    change = {} if result is base else {name: value - (base.nats[name].value or 0.0) for name, value in nll.items()}
    return result.model_copy(
        update={
            "nats": {name: _around(value) for name, value in nll.items()},
            "nats_change": {name: _around(value) for name, value in change.items()},
            "outcomes": Outcomes(not_judged=100),
        }
    )


def _nll(result: TaskResult) -> float:
    return -math.log(max(0.01, result.accuracy.value or 0.0))


def _frontier_in_nats(one: ArmFrontier, base: float) -> ArmFrontier:
    points = []
    for point in one.points:
        nll = -math.log(max(0.01, point.target_accuracy.value or 0.0))
        points.append(point.model_copy(update={"target_nll": _around(nll), "target_fall": _around(base - nll)}))
    by_rate = {point.learning_rate: point.target_nll for point in points}
    best = tuple(
        best.model_copy(update={"target_nll": by_rate[best.learning_rate]} if best.learning_rate else {})
        for best in one.best_within
    )
    return one.model_copy(update={"points": tuple(points), "best_within": best})


def _around(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.08, high=value + 0.06)


def _swept(target: TargetReport) -> TargetReport:
    arms = tuple(arm.model_copy(update={"learning_rate": _CHOSEN[arm.name]}) for arm in target.arms)
    target = target.model_copy(update={"arms": arms})
    plain = target.reference
    assert plain is not None
    at_plain = {arm.name: _point(arm, target, _CHOSEN["plain"]) for arm in arms}
    told = {name: _against(point, at_plain["plain"]) for name, point in at_plain.items() if name != "plain"}
    told |= {arm.name: point for arm in arms if (point := _own_at_plain(arm)) is not None}
    return target.model_copy(update={"frontier": tuple(_frontier(arm, target, told) for arm in arms)})


def _own_at_plain(arm: ArmReport) -> tuple[Estimate, Estimate] | None:
    """The paired difference that the report has of an arm whose own rate is plain's; None for other arms."""
    if _CHOSEN[arm.name] != _CHOSEN["plain"] or arm.against_reference is None:
        return None
    return arm.against_reference.target_points, arm.against_reference.backward_transfer


def _against(point: FrontierPoint, plain: FrontierPoint) -> tuple[Estimate, Estimate]:
    pairs = (
        (point.target_points, plain.target_points),
        (point.backward_transfer, plain.backward_transfer),
    )
    values = [(one.value or 0.0) - (other.value or 0.0) for one, other in pairs]
    gain, transfer = (Estimate(value=value, low=value - 5, high=value + 4) for value in values)
    return gain, transfer


def _frontier(arm: ArmReport, target: TargetReport, told: dict[str, tuple[Estimate, Estimate]]) -> ArmFrontier:
    points = tuple(_point(arm, target, rate) for rate in RATES)
    if arm.name in told:
        gain, transfer = told[arm.name]
        changes = {"points_against_plain": gain, "transfer_against_plain": transfer}
        points = tuple(p.model_copy(update=changes) if p.at_plain_rate else p for p in points)
    best, base = [], target.base_result(target.task)
    assert base is not None
    for loss in LOSSES:
        kept = [p for p in points if (p.backward_transfer.value or 0) >= -loss]
        highest = max(kept, key=lambda p: p.target_accuracy.value or 0.0, default=None)
        if highest is not None and (highest.target_accuracy.value or 0.0) <= (base.accuracy.value or 0.0):
            highest = None  # the base, which loses nothing, is one of the choices
        value = base.accuracy if highest is None else highest.target_accuracy
        rate = None if highest is None else highest.learning_rate
        best.append(BestWithin(loss=loss, learning_rate=rate, target_accuracy=value, on_validation=True))
    return ArmFrontier(arm=arm.name, points=points, best_within=tuple(best))


def _point(arm: ArmReport, target: TargetReport, rate: float) -> FrontierPoint:
    base, after = target.base_result(target.task), arm.result(target.task)
    assert base is not None
    assert after is not None
    share = _SHARES[rate] / _SHARES[_CHOSEN[arm.name]]
    start, end = base.accuracy.value or 0.0, after.accuracy.value or 0.0
    correct = min(100, max(0, round(100 * (start + share * (end - start)))))
    drifts = [run.drift for run in arm.runs if run.drift is not None]
    place = {"learning_rate": rate, "chosen": share == 1.0, "at_plain_rate": rate == _CHOSEN["plain"]}
    if share == 1.0:
        return FrontierPoint(
            **place,
            target_accuracy=after.accuracy,
            target_improvement=arm.target_improvement,
            target_points=arm.target_points,
            backward_transfer=arm.backward_transfer,
            validation_accuracy=after.accuracy,
            drift=float(np.mean(drifts)),
        )
    kept = max(0.0, 1 + (arm.backward_transfer.value or 0.0) / 100)
    transfer = 100 * (kept**share - 1)  # at most all is lost
    return FrontierPoint(
        **place,
        target_accuracy=metrics.accuracy(correct, 100),
        target_improvement=Estimate(value=100 * (correct / 100 - start) / start) if start else Estimate(),
        target_points=Estimate(value=correct - 100 * start),
        backward_transfer=Estimate(value=transfer, low=transfer - 6, high=transfer + 5),
        validation_accuracy=metrics.accuracy(correct, 100),
        drift=share * float(np.mean(drifts)),
    )


if __name__ == "__main__":
    write_report(likelihood_report() if sys.argv[2:] == ["likelihood"] else swept_report(), Path(sys.argv[1]))
