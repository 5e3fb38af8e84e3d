"""An arm's frontier: what it reaches on the target at each learning rate, and what that costs the other skills.

Units as in the report's schema: accuracies are fractions, TI and BWT percent, points percentage points.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict

from tokensieve.metrics import Estimate

LOSSES: Final = (2.0, 5.0, 10.0)
"""Losses of the other skills, in percent, within which an arm's best accuracy is told."""

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class FrontierPoint(BaseModel):
    """One arm at one learning rate, over all seeds."""

    model_config = _STRICT

    learning_rate: float
    """The peak."""
    target_accuracy: Estimate
    """Fraction of the target's problems answered correctly, with the Wilson interval over problems."""
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
    """The best accuracy on the target at a bounded loss of the other skills."""

    model_config = _STRICT

    loss: float
    """Most that the other skills may lose, percent."""
    learning_rate: float | None
    """The rate that reaches it; None where no rate is better than the base itself, which loses nothing."""
    target_accuracy: Estimate
    """A fraction; the bootstrap chooses anew in every replicate."""


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
