"""Schema of a report's results: accuracies by task, training runs, and each arm's frontier over its learning rates.

Units as in the report's schema: accuracies are fractions, TI and BWT percent, points percentage points.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from tokensieve.analysis.results import WeightUpdate
from tokensieve.metrics import Estimate

LOSSES: Final = (2.0, 5.0, 10.0)
"""Losses of the other skills, in percent, within which an arm's best accuracy is told."""

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Outcomes(BaseModel):
    """Answers by what the checker found; answered in the wrong form and answered wrongly are told apart."""

    model_config = _STRICT

    correct: int = 0
    wrong: int = 0
    no_answer: int = 0
    cut_off: int = 0
    """Answers that the length limit ended where the study counts them as wrong unread; else 0."""
    not_judged: int = 0
    limited: int = 0
    """Answers that the length limit ended, whatever was found in them: a flag, no part of the sum."""
    limited_correct: int = 0
    """Those of them that are correct."""

    @property
    def total(self) -> int:
        """All answers."""
        return self.correct + self.wrong + self.no_answer + self.cut_off + self.not_judged


class TaskResult(BaseModel):
    """Result of a model on one task; over several seeds the answers are pooled."""

    model_config = _STRICT

    task: str
    """The registered task's name."""
    accuracy: Estimate
    """Fraction of problems answered correctly, with the Wilson interval over problems; of a task that is measured by
    likelihood the mean of 1 / perplexity over its texts, with a bootstrap over them."""
    outcomes: Outcomes
    """Number of answers by finding."""
    nats: dict[str, Estimate] = Field(default_factory=dict)
    """Of a task that is measured by likelihood: nll in nats per token, of `all` tokens and of those that are `likely`
    (perplexity up to 2.5) and `unlikely` under the base."""
    nats_change: dict[str, Estimate] = Field(default_factory=dict)
    """Change of these against the base, or against the models that the runs went on from, in nats per token, paired by
    text and over seeds; empty for the base itself."""

    @property
    def nll(self) -> Estimate:
        """Nll of all tokens, nats per token; undefined where the task has right and wrong."""
        return self.nats.get("all", Estimate())

    @property
    def fall(self) -> Estimate:
        """Fall of that nll in nats per token, from where ``nats_change`` counts; undefined for the base itself."""
        return self.nats_change.get("all", Estimate()).negated()


class CurvePoint(BaseModel):
    """One logged step of a training run."""

    model_config = _STRICT

    step: int
    """Optimiser steps done, from 1."""
    loss: float
    """Mean nll over the trained tokens, nats."""


class DriftSet(BaseModel):
    """Drift of one training run on one set of rows, with bootstrap intervals over the rows."""

    model_config = _STRICT

    name: str
    """Name of the set: dialogues, answers, rows or text."""
    kl: Estimate
    """Forward KL(base || model), nats per token."""
    nll_change: Estimate
    """Mean nll under the model minus that under the base, nats per token."""
    base_perplexity: float | None = None
    """exp of the mean nll under the base."""
    tuned_perplexity: float | None = None
    """exp of the mean nll under the model."""


class SeedRun(BaseModel):
    """One training run of an arm."""

    model_config = _STRICT

    seed: int
    """Order of the rows and initial adapter weights."""
    target_improvement: float | None = None
    """TI of this run, percent; None where the base is 0."""
    backward_transfer: float | None = None
    """BWT of this run, percent."""
    target_accuracy: float | None = None
    """Accuracy on the target after this run, a fraction."""
    drift: float | None = None
    """Forward KL(base || model) in nats per token, the mean over sets; None where the study does not measure it."""
    drift_sets: tuple[DriftSet, ...] = ()
    """Drift by set of rows; empty where the study does not measure it."""
    update: WeightUpdate | None = None
    """Norms, singular values and effective ranks of its weight update; None where the study does not measure them."""
    curve: tuple[CurvePoint, ...] = ()
    """Training loss by step."""
    wall_s: float | None = None
    """Seconds of training."""


class FrontierPoint(BaseModel):
    """One arm at one learning rate, over all seeds."""

    model_config = _STRICT

    learning_rate: float
    """The peak."""
    target_accuracy: Estimate
    """Fraction of the target's problems answered correctly, with the Wilson interval over problems."""
    target_nll: Estimate = Estimate()
    """Nll of the target, nats per token; undefined where the target has right and wrong."""
    target_fall: Estimate = Estimate()
    """Fall of that nll from the base's, nats per token, paired bootstrap."""
    target_improvement: Estimate = Estimate()
    """TI, percent, paired bootstrap."""
    target_points: Estimate = Estimate()
    """Gain on the target in percentage points, paired bootstrap."""
    backward_transfer: Estimate = Estimate()
    """BWT, percent, paired bootstrap."""
    drift: float | None = None
    """Mean over seeds of KL(base || model), nats per token; None where it is not measured."""
    validation_accuracy: Estimate | None = None
    """On the target's validation problems; None where the arm has one rate, so none was chosen."""
    chosen: bool = False
    """True at the arm's own best rate on validation."""
    at_plain_rate: bool = False
    """True at the rate that is the plain arm's best."""
    points_against_plain: Estimate = Estimate()
    """At plain's rate the paired difference to plain on the target, points; undefined elsewhere."""
    transfer_against_plain: Estimate = Estimate()
    """At plain's rate the paired difference to plain in BWT, percent; undefined elsewhere."""


class BestWithin(BaseModel):
    """An arm's accuracy on the target at its best rate among those that lose no more of the other skills."""

    model_config = _STRICT

    loss: float
    """Most that the other skills may lose, percent."""
    learning_rate: float | None
    """The best of those rates; None for the base itself, where every rate loses more."""
    target_accuracy: Estimate
    """A fraction; the bootstrap chooses anew in every replicate."""
    target_nll: Estimate = Estimate()
    """Nll at that rate, nats per token, whose interval leaves the choice out; undefined as in a point."""
    on_validation: bool = False
    """True where the target's validation problems chose the rate, or there is one rate; else its test problems did."""


class ArmFrontier(BaseModel):
    """One arm's points in order of the learning rate."""

    model_config = _STRICT

    arm: str
    """Its name in tables."""
    points: tuple[FrontierPoint, ...]
    """One a rate."""
    best_within: tuple[BestWithin, ...] = ()
    """One a bound on the loss; empty where BWT is not defined."""

    @property
    def chosen(self) -> FrontierPoint | None:
        """The point at its own best rate."""
        return next((point for point in self.points if point.chosen), None)

    @property
    def at_plain_rate(self) -> FrontierPoint | None:
        """The point at plain's best rate; None where the arm was not trained at it."""
        return next((point for point in self.points if point.at_plain_rate), None)
