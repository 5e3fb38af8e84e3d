"""The choice of a learning rate on validation, and an arm's frontier over its rates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tokensieve import metrics
from tokensieve.metrics import Estimate, Flags, Values
from tokensieve.report.results_schema import LOSSES, ArmFrontier, BestWithin, FrontierPoint, TaskResult
from tokensieve.study.plan import ArmPlan, ArmRun

RunFlags: TypeAlias = dict[float, list[Flags]]
"""Learning rate to the answers of its runs, one mapping a seed."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One trained arm of one target at all its rates.

    Attributes:
        arm: its plan.
        after: its answers by rate.
        validation: accuracy on the target's validation problems by rate; empty where there is one rate.
        validated: every run's values on these problems by rate, likewise.
        chosen: the rate that validation chooses.
    """

    arm: ArmPlan
    after: RunFlags
    validation: Mapping[float, Estimate]
    validated: Mapping[float, Sequence[Values]]
    chosen: float


def choose_rate(accuracies: Mapping[float, float], values: Mapping[float, Sequence[Values]]) -> float:
    """The lowest rate among those that cannot be told from the best.

    The best is the highest mean accuracy over seeds on the target's validation problems; a rate within one standard
    error of it counts as equally good, and of those the lowest moves the model least. The standard error is that of
    ``within_standard_error``, and where values are no flags but likelihoods that of ``within_paired_error``.

    Args:
        accuracies: learning rate to mean accuracy over seeds, a fraction.
        values: learning rate to the values on these problems, ``[N]`` a seed.
    """
    best = max(accuracies, key=accuracies.__getitem__)

    def as_good(rate: float) -> bool:
        if all(run.dtype == np.bool_ for run in values[rate]):
            return metrics.within_standard_error(accuracies[rate], accuracies[best], len(values[rate][0]))
        one_N, best_N = (np.mean(values[which], axis=0) for which in (rate, best))
        return metrics.within_paired_error(one_N - best_N)

    return min(filter(as_good, accuracies))


def swept(
    arm: ArmPlan,
    flags: Callable[[ArmRun], Flags],
    validation: Callable[[Sequence[ArmRun]], tuple[Estimate, Sequence[Values]]],
) -> Swept:
    """An arm's answers at every rate, and the rate that is chosen.

    Args:
        arm: its plan; its runs are made.
        flags: answers of a run.
        validation: accuracy of several seeds' runs on the validation problems, and each run's values on them.
    """
    by_rate = arm.by_rate()
    after = {rate: [flags(run) for run in runs] for rate, runs in by_rate.items()}
    if len(by_rate) == 1:
        return Swept(arm, after, {}, {}, next(iter(by_rate)))
    found = {rate: validation(runs) for rate, runs in by_rate.items()}
    accuracies = {rate: estimate for rate, (estimate, _) in found.items()}
    validated = {rate: values for rate, (_, values) in found.items()}
    chosen = choose_rate({rate: estimate.value or 0.0 for rate, estimate in accuracies.items()}, validated)
    return Swept(arm, after, accuracies, validated, chosen)


def frontier(
    one: Swept,
    before: Flags,
    target: str,
    reference: Swept | None,
    result: Callable[[Sequence[ArmRun]], TaskResult],
    drift: Callable[[ArmRun], float | None],
) -> ArmFrontier:
    """An arm's points, one a rate, and its best accuracy within a loss of the other skills.

    Args:
        one: the arm.
        before: the base's answers.
        target: the task that is learnt.
        reference: the plain arm, None where the study has none.
        result: of several seeds' runs on the target.
        drift: of a run.
    """
    rates = one.arm.by_rate()
    points = []
    for rate, runs in rates.items():
        found, measured = metrics.forgetting(before, one.after[rate], target), result(runs)
        drifts = [value for value in map(drift, runs) if value is not None]
        at_plain = reference is not None and rate == reference.chosen
        gain, transfer = Estimate(), Estimate()
        if reference is not None and at_plain and reference is not one:
            gain, transfer = metrics.difference(before, one.after[rate], reference.after[rate], target)
        points.append(
            FrontierPoint(
                learning_rate=rate,
                target_accuracy=measured.accuracy,
                target_nll=measured.nll,
                target_fall=measured.fall,
                target_improvement=found.ti,
                target_points=found.ti_points,
                backward_transfer=found.bwt,
                drift=float(np.mean(drifts)) if drifts else None,
                validation_accuracy=one.validation.get(rate),
                chosen=rate == one.chosen,
                at_plain_rate=at_plain,
                points_against_plain=gain,
                transfer_against_plain=transfer,
            )
        )
    return ArmFrontier(
        arm=one.arm.settings.name, points=tuple(points), best_within=_best_within(one, before, target, points)
    )


def _best_within(one: Swept, before: Flags, target: str, points: Sequence[FrontierPoint]) -> tuple[BestWithin, ...]:
    """The arm at its best rate on validation within each loss; empty where BWT is not defined."""
    if not any(point.backward_transfer.defined for point in points):
        return ()
    settings = [one.after[point.learning_rate] for point in points]
    validated = [one.validated[point.learning_rate] for point in points] if one.validated else None
    best = []
    for loss, (place, value) in zip(
        LOSSES, metrics.best_within(before, settings, target, LOSSES, validated), strict=True
    ):
        point = None if place is None else points[place]
        best.append(
            BestWithin(
                loss=loss,
                learning_rate=None if point is None else point.learning_rate,
                target_accuracy=value,
                target_nll=Estimate() if point is None else point.target_nll,
                on_validation=validated is not None or len(points) == 1,
            )
        )
    return tuple(best)
