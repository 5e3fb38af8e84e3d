"""The made-up report with a frontier: every arm at three learning rates. Run it to write the page.

``python -m tests.swept_report FOLDER`` writes report.html and report.json there.
"""

import sys
from functools import cache
from pathlib import Path

from tests.synthetic_report import synthetic_report

from tokensieve import metrics
from tokensieve.metrics import Estimate
from tokensieve.report import Report, TargetReport, write_report
from tokensieve.report.results_schema import LOSSES, ArmFrontier, BestWithin, FrontierPoint
from tokensieve.report.schema import ArmReport

RATES = (5e-5, 1e-4, 2e-4)
_CHOSEN = {"plain": 5e-5, "STM 2.5": 2e-4, "share 10 %": 1e-4, "random": 1e-4, "Self-Output": 1e-4}
_SHARES = {5e-5: 0.4, 1e-4: 0.75, 2e-4: 1.15}
"""How far a rate goes on the way from the base to the arm's result."""


@cache
def swept_report() -> Report:
    """Two targets, five arms, three rates; plain's best is the lowest, STM's the highest."""
    report = synthetic_report()
    return report.model_copy(update={"targets": tuple(map(_swept, report.targets))})


def _swept(target: TargetReport) -> TargetReport:
    arms = tuple(arm.model_copy(update={"learning_rate": _CHOSEN[arm.name]}) for arm in target.arms)
    frontier = tuple(_frontier(arm, target) for arm in target.arms)
    return target.model_copy(update={"arms": arms, "frontier": frontier})


def _frontier(arm: ArmReport, target: TargetReport) -> ArmFrontier:
    points = tuple(_point(arm, target, rate) for rate in RATES)
    best, base = [], target.base_result(target.task)
    assert base is not None
    for loss in LOSSES:
        kept = [p for p in points if (p.backward_transfer.value or 0) >= -loss]
        highest = max(kept, key=lambda p: p.target_accuracy.value or 0.0, default=None)
        value = base.accuracy if highest is None else highest.target_accuracy
        rate = None if highest is None else highest.learning_rate
        best.append(BestWithin(loss=loss, learning_rate=rate, target_accuracy=value))
    return ArmFrontier(arm=arm.name, points=points, best_within=tuple(best))


def _point(arm: ArmReport, target: TargetReport, rate: float) -> FrontierPoint:
    base, after = target.base_result(target.task), arm.result(target.task)
    assert base is not None
    assert after is not None
    start, end = base.accuracy.value or 0.0, after.accuracy.value or 0.0
    correct = min(100, max(0, round(100 * (start + _SHARES[rate] * (end - start)))))
    transfer = _SHARES[rate] * (arm.backward_transfer.value or 0.0)
    at_plain = rate == _CHOSEN["plain"]
    against = Estimate(value=-4.0, low=-9.0, high=-1.0) if at_plain and arm.name != "plain" else Estimate()
    return FrontierPoint(
        learning_rate=rate,
        target_accuracy=metrics.accuracy(correct, 100),
        target_improvement=Estimate(value=100 * (correct / 100 - start) / start) if start else Estimate(),
        target_points=Estimate(value=correct - 100 * start),
        backward_transfer=Estimate(value=transfer, low=transfer - 6, high=transfer + 5),
        validation_accuracy=metrics.accuracy(correct, 100),
        chosen=rate == _CHOSEN[arm.name],
        at_plain_rate=at_plain,
        points_against_plain=against,
        transfer_against_plain=against,
    )


if __name__ == "__main__":
    write_report(swept_report(), Path(sys.argv[1]))
