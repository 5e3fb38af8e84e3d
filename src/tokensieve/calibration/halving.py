"""Successive halving over candidates, each worth its share of the best gain minus a price for its drift."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel

from tokensieve.config import STRICT
from tokensieve.errors import InputError
from tokensieve.metrics import spearman, standard_error
from tokensieve.selection import parse_policy
from tokensieve.training.losses import parse_loss

_LEAST_KEPT = 3
_NLL_TELLS: Final = -0.5
"""Rank correlation of accuracy and nll from which on nll is read as a finer measure of accuracy."""


class Candidate(BaseModel):
    """One way to train: policy, loss, anchors or none, learning rate, epochs, interpolation with the base."""

    model_config = STRICT

    policy: str
    """Policy, as in ``select``."""
    anchors: bool = False
    """True where the loss holds the KL to the base on anchors."""
    loss: str = "nll"
    """Loss of a trained token, as in ``train.objective.loss``."""
    learning_rate: float
    """Peak learning rate."""
    epoch_factor: float = 1.0
    """Multiple of the training settings' epochs."""
    alpha: float = 1.0
    """The model is base + alpha (tuned - base)."""

    @property
    def name(self) -> str:
        """For tables and folders."""
        parts = [self.policy, *([self.loss] if self.loss != "nll" else []), *(["anchors"] if self.anchors else [])]
        longer = "" if self.epoch_factor == 1.0 else f", {self.epoch_factor:g} times the epochs"
        after = "" if self.alpha == 1.0 else f", {self.alpha:g} of the update"
        return f"{' + '.join(parts)} at {self.learning_rate:g}{longer}{after}"

    @property
    def kind(self) -> tuple[str, str, bool]:
        """Candidates of a kind differ in learning rate, epochs and interpolation only."""
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


class Baseline(BaseModel):
    """The base on the target's validation data."""

    model_config = STRICT

    accuracy: float | None
    """A fraction; None where the target is rows."""
    nll: float
    """Mean nll of the responses in nats."""


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


def gains_of(trials: Sequence[Trial], base: Baseline) -> tuple[list[float], float]:
    """Gain of each trial over the base, and one standard error of it.

    Gain is the rise of the accuracy above the base's, or the fall of the nll where there is no accuracy, or where no
    accuracy can be told from the base's and nll tells (see ``nll_tells``); the standard error is that of the base's
    accuracy, and 0 for the nll.
    """
    noise = max(standard_error(base.accuracy or 0.0, trial.problems) for trial in trials)
    gains = [(trial.accuracy or 0.0) - (base.accuracy or 0.0) for trial in trials]
    if base.accuracy is None or (max(gains) <= noise and nll_tells(trials)):
        return [base.nll - trial.nll for trial in trials], 0.0
    return gains, noise


def utilities(trials: Sequence[Trial], base: Baseline, price: float) -> list[float]:
    """Value of each trial: its share of the best gain, minus ``price`` times its share of the best's drift.

    The best is the trial of the largest gain, so its own value is ``1 - price``; that of a model left as it is would be
    0. Gain is as in ``gains_of``; one below a standard error is not blown up to a whole one.

    Args:
        trials: to be compared, of one rung.
        base: accuracy and nll before training.
        price: 0 looks at the gain alone; 1 gives up a tenth of the best gain for a tenth of its drift.
    """
    gains, noise = gains_of(trials, base)
    best = max(range(len(trials)), key=lambda place: (gains[place], -trials[place].drift))
    scale, drift = max(gains[best], noise, 1e-9), max(trials[best].drift, 1e-9)
    return [gain / scale - price * trial.drift / drift for gain, trial in zip(gains, trials, strict=True)]


def most_accurate(trials: Iterable[Trial]) -> Trial:
    """The trial of the highest accuracy; of equal ones the lowest nll."""
    return max(trials, key=lambda trial: (trial.accuracy or 0.0, -trial.nll))


def ranked(trials: Sequence[Trial], base: Baseline, price: float) -> list[Trial]:
    """Highest value first (see ``utilities``)."""
    values = utilities(trials, base, price)
    return [trials[place] for place in sorted(range(len(trials)), key=lambda place: -values[place])]


def halve(
    candidates: Sequence[Candidate],
    rungs: Sequence[float],
    run: Callable[[Candidate, float], Trial],
    base: Baseline,
    price: float,
) -> list[list[Trial]]:
    """Try all candidates on the first share of the rows, the better half on the next, and so on.

    Beside the better half there go on: of every kind (policy, loss, anchors) its best, on the first rung, and the most
    accurate candidate of all, by which the others' gain is measured. At least three go on where there are as many.

    Args:
        candidates: what is tried.
        rungs: shares of the rows, ascending.
        run: trains and measures one candidate on a share of the rows.
        base: accuracy and nll before training.
        price: of drift, see ``utilities``.

    Returns:
        For each rung its trials, best first.
    """
    left = list(candidates)
    done: list[list[Trial]] = []
    for number, share in enumerate(rungs):
        trials = ranked([run(candidate, share) for candidate in left], base, price)
        done.append(trials)
        kept = trials[: max(_LEAST_KEPT, -(-len(trials) // 2))]
        extra = [most_accurate(trials)]
        if number == 0:
            firsts = {trial.candidate.kind: trial for trial in reversed(trials)}
            extra.extend(trial for trial in trials if firsts[trial.candidate.kind] is trial)
        left = [trial.candidate for trial in trials if any(trial is one for one in (*kept, *extra))]
    return done


def lengthen(
    rung: Sequence[Trial],
    factors: Sequence[float],
    run: Callable[[Candidate, float], Trial],
    base: Baseline,
    price: float,
) -> list[Trial]:
    """Train the best candidate of every kind for more epochs, as long as its value among all trials rises.

    A kind whose gain over the base is within one standard error is left as it is: more epochs of rows that teach
    nothing would be chosen for their noise.

    Args:
        rung: trials of the last rung, best first.
        factors: multiples of the epochs, ascending.
        run: trains and measures one candidate on a share of the rows.
        base: accuracy and nll before training.
        price: of drift, see ``utilities``.

    Returns:
        The longer trials, in the order in which they were made.
    """
    made: list[Trial] = []
    gains, noise = gains_of(rung, base)
    taught = [trial for trial, gain in zip(rung, gains, strict=True) if gain > noise]
    for first in {trial.candidate.kind: trial for trial in reversed(taught)}.values():
        best = first
        for factor in factors:
            longer = run(first.candidate.model_copy(update={"epoch_factor": factor}), first.share)
            made.append(longer)
            order = ranked([*rung, *made], base, price)
            if order.index(longer) > order.index(best):
                break
            best = longer
    return made
