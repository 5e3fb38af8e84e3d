"""Successive halving over candidates that are scored by accuracy, nll and drift."""

import math
from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel

from tokensieve.config import STRICT

_LEAST_KEPT = 3


class Candidate(BaseModel):
    """One way to train: a policy, anchors or none, a learning rate."""

    model_config = STRICT

    policy: str
    """Policy, as in ``select``."""
    anchors: bool
    """True where the loss holds the KL to the base on anchors."""
    learning_rate: float
    """Peak learning rate."""

    @property
    def name(self) -> str:
        """For tables and folders."""
        return f"{self.policy}{' + anchors' if self.anchors else ''} at {self.learning_rate:g}"


class Trial(BaseModel):
    """A candidate trained on a share of the rows, and what came of it."""

    model_config = STRICT

    candidate: Candidate
    share: float
    """Share of the training rows."""
    accuracy: float | None
    """On the target's validation problems, a fraction; None where the target is rows."""
    problems: int
    """Number of those problems."""
    nll: float
    """Mean nll in nats of the target's validation responses."""
    drift: float
    """KL(base || model) in nats per token."""
    wall_s: float
    """Seconds of training and measuring."""


def tied(one: Trial, other: Trial) -> bool:
    """True where two accuracies are within one standard error of each other, or there are none.

    The standard error is that of a share of correct answers at the mean of both, of one run; so two trials on the same
    problems count as different a little later than a paired test would say.
    """
    if one.accuracy is None or other.accuracy is None:
        return True
    mean = (one.accuracy + other.accuracy) / 2
    return abs(one.accuracy - other.accuracy) <= math.sqrt(max(mean * (1 - mean), 1e-9) / max(one.problems, 1))


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Best first: again and again the lowest nll among those whose accuracy is tied with the highest that is left."""
    left = list(trials)
    order: list[Trial] = []
    while left:
        best = max(left, key=lambda trial: trial.accuracy or 0.0)
        order.append(min((trial for trial in left if tied(trial, best)), key=lambda trial: trial.nll))
        left = [trial for trial in left if trial is not order[-1]]
    return order


def halve(
    candidates: Sequence[Candidate], rungs: Sequence[float], run: Callable[[Candidate, float], Trial]
) -> list[list[Trial]]:
    """Try all candidates on the first share of the rows, the better half on the next, and so on.

    Of every policy the best candidate goes on to the second rung whatever its rank, since short runs favour high
    learning rates. At least three go on where there are as many.

    Args:
        candidates: what is tried.
        rungs: shares of the rows, ascending.
        run: trains and measures one candidate on a share of the rows.

    Returns:
        For each rung its trials, best first.
    """
    left = list(candidates)
    done: list[list[Trial]] = []
    for number, share in enumerate(rungs):
        trials = ranked([run(candidate, share) for candidate in left])
        done.append(trials)
        kept = trials[: max(_LEAST_KEPT, -(-len(trials) // 2))]
        if number == 0:
            kinds = {(trial.candidate.policy, trial.candidate.anchors) for trial in kept}
            for trial in trials:
                kind = (trial.candidate.policy, trial.candidate.anchors)
                if kind not in kinds:
                    kinds.add(kind)
                    kept.append(trial)
        left = [trial.candidate for trial in kept]
    return done


def choose(finalists: Sequence[Trial], tolerance_nats: float = 0.02) -> Trial:
    """The finalist of least drift among those that cannot be told from the best.

    Those are the ones whose accuracy is within one standard error of the best; where all accuracies are tied at 0 or
    there are none, those whose nll is within ``tolerance_nats`` of the lowest.
    """
    best = max(finalists, key=lambda trial: (trial.accuracy or 0.0, -trial.nll))
    near = [trial for trial in finalists if tied(trial, best)]
    if not best.accuracy:
        lowest = min(trial.nll for trial in near)
        near = [trial for trial in near if trial.nll <= lowest + tolerance_nats]
    return min(near, key=lambda trial: (trial.drift, -(trial.accuracy or 0.0), trial.nll))
