"""Successive halving over candidates that are scored by accuracy, nll and drift."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel

from tokensieve.comparison.rank_correlation import spearman
from tokensieve.config import STRICT
from tokensieve.errors import InputError
from tokensieve.selection import parse_policy
from tokensieve.training.losses import parse_loss

_LEAST_KEPT = 3
_NLL_TELLS: Final = -0.5
"""Rank correlation of accuracy and nll from which on nll is read as a finer measure of accuracy."""
_NLL_TOLERANCE: Final = 0.1
"""Share of the largest fall of the nll that a finalist may lack."""


class Candidate(BaseModel):
    """One way to train: policy, loss, anchors or none, learning rate, and interpolation with the base afterwards."""

    model_config = STRICT

    policy: str
    """Policy, as in ``select``."""
    anchors: bool = False
    """True where the loss holds the KL to the base on anchors."""
    loss: str = "nll"
    """Loss of a trained token, as in ``train.objective.loss``."""
    learning_rate: float
    """Peak learning rate."""
    alpha: float = 1.0
    """The model is base + alpha (tuned - base)."""

    @property
    def name(self) -> str:
        """For tables and folders."""
        parts = [self.policy, *([self.loss] if self.loss != "nll" else []), *(["anchors"] if self.anchors else [])]
        after = "" if self.alpha == 1.0 else f", {self.alpha:g} of the update"
        return f"{' + '.join(parts)} at {self.learning_rate:g}{after}"

    @property
    def kind(self) -> tuple[str, str, bool]:
        """Candidates of a kind differ in learning rate and interpolation only."""
        return self.policy, self.loss, self.anchors


def parse_candidates(text: str, rates: Sequence[float]) -> list[Candidate]:
    """The candidates of one entry of the settings, one a learning rate.

    Args:
        text: ``POLICY [+ LOSS] [+ anchors]``, such as ``stm:2.5 + anchors`` or ``plain + dft``.
        rates: peak learning rates.

    Raises:
        InputError: a part that is neither a loss nor ``anchors``.
    """
    policy, *others = (part.strip() for part in text.split(" + "))
    losses = [part for part in others if part != "anchors"]
    if len(losses) > 1 or others.count("anchors") > 1:
        raise InputError("expected POLICY [+ LOSS] [+ anchors]", where=f"candidate {text!r}")
    parse_policy(policy)
    loss = losses[0] if losses else "nll"
    parse_loss(loss)
    return [Candidate(policy=policy, anchors="anchors" in others, loss=loss, learning_rate=rate) for rate in rates]


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


def nll_tells(trials: Sequence[Trial]) -> bool:
    """True where a lower nll goes with a higher accuracy: the rank correlation over the trials is below -0.5.

    On a task that the base does not know, nll says more than the accuracy of a hundred problems. Where the training
    responses are written in a style of their own, nll falls while accuracy does too, and must not decide.
    """
    known = [(trial.accuracy, trial.nll) for trial in trials if trial.accuracy is not None]
    if not known:
        return True
    accuracies, nlls = (np.asarray(values, dtype=np.float64) for values in zip(*known, strict=True))
    if not accuracies.any():
        return True
    return bool(spearman(accuracies, nlls) < _NLL_TELLS)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Best first: again and again, of those whose accuracy is tied with the highest that is left, the lowest nll.

    Where nll does not tell (see `nll_tells`), the highest accuracy, then the least drift.
    """
    left = list(trials)
    by_nll = nll_tells(left)
    order: list[Trial] = []
    while left:
        best = max(left, key=lambda trial: (trial.accuracy or 0.0, -trial.drift))
        order.append(min((trial for trial in left if tied(trial, best)), key=lambda t: t.nll) if by_nll else best)
        left = [trial for trial in left if trial is not order[-1]]
    return order


def halve(
    candidates: Sequence[Candidate], rungs: Sequence[float], run: Callable[[Candidate, float], Trial]
) -> list[list[Trial]]:
    """Try all candidates on the first share of the rows, the better half on the next, and so on.

    Of every kind (policy, loss, anchors) the best candidate goes on to the second rung whatever its rank, since short
    runs favour high learning rates. At least three go on where there are as many.

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
            kinds = {trial.candidate.kind for trial in kept}
            for trial in trials:
                if trial.candidate.kind not in kinds:
                    kinds.add(trial.candidate.kind)
                    kept.append(trial)
        left = [trial.candidate for trial in kept]
    return done


def choose(finalists: Sequence[Trial], base_nll: float, earlier: Sequence[Trial] = ()) -> Trial:
    """The finalist of least drift among those that have learnt as much as the best.

    These are the ones whose accuracy is within one standard error of the best; and where nll tells (see `nll_tells`),
    with at least nine tenths of the largest fall of the nll from the base's among them.

    Args:
        finalists: trials on all rows, interpolations among them.
        base_nll: the base's nll in nats on the same responses.
        earlier: trials of earlier rungs, which help to see whether nll tells.
    """
    best = max(finalists, key=lambda trial: (trial.accuracy or 0.0, -trial.nll))
    near = [trial for trial in finalists if tied(trial, best)]
    if nll_tells([*finalists, *earlier]):
        lowest = min(trial.nll for trial in near)
        worst = lowest + max(0.0, base_nll - lowest) * _NLL_TOLERANCE
        near = [trial for trial in near if trial.nll <= worst]
    return min(near, key=lambda trial: (trial.drift, -(trial.accuracy or 0.0), trial.nll))
