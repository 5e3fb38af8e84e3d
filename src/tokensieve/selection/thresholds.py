"""Policies that leave tokens out by a threshold on their nll: plain, stm, share, nll_budget."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, TypeAlias

import numpy as np

from tokensieve.errors import InputError
from tokensieve.selection.policy import (
    Candidates,
    Decision,
    Factors,
    TrainingSplit,
    Traits,
    no_argument,
    number,
)
from tokensieve.selection.quantiles import threshold_for_share, threshold_for_sum
from tokensieve.types import FloatArray

Scope: TypeAlias = Literal["split", "row"]
"""Over what a share is taken: all rows of the training split pooled, or each row by itself."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Train every response token: plain fine-tuning.

    Formula: the factor of every candidate is 1. Source: our own word for the usual fine-tuning.
    """

    usage: ClassVar[str] = "plain"
    traits: ClassVar[Traits] = Traits(trains_all=True)
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        no_argument(argument, cls.usage)
        return cls()

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - needs no scores
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(np.ones(len(row)))


@dataclass(frozen=True, slots=True)
class Stm:
    """Leave out tokens of a perplexity above PPL (selective token masking).

    Formula: a candidate is trained where ``nll <= ln(PPL)``, compared in nats and without rounding, so that a token of
    exactly PPL is trained. Source: Wu et al. 2025, arXiv 2501.14315, sections 3 and 5 (PPL 2.5). Differs: protected
    tokens, such as end of turn, are always trained unless ``paper_exact``.
    """

    perplexity: float
    usage: ClassVar[str] = "stm:PPL"
    traits: ClassVar[Traits] = Traits()

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``."""
        return math.log(self.perplexity)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(perplexity(argument, cls.usage))

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - the threshold is given
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(not_above(row.nll_P(), self.threshold_nats))


@dataclass(frozen=True, slots=True)
class Share:
    """Leave out the FRACTION of the tokens with the highest nll, of all rows pooled or of each row (:row).

    Formula: STM with the smallest threshold above which at most FRACTION of the candidates lie; tokens tied at the
    threshold are trained, so that never more than FRACTION are left out. Source: the rule of thumb of arXiv
    2501.14315, section 5 (20 to 25 % of the tokens), as a threshold that follows the data.
    """

    fraction: float
    scope: Scope = "split"
    threshold_nats: float = math.inf
    usage: ClassVar[str] = "share:FRACTION[:row]"
    traits: ClassVar[Traits] = Traits()

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        fraction, scope = fraction_and_scope(argument, cls.usage, "a fraction of the tokens")
        return cls(fraction, scope)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        if self.scope == "row":
            return self
        found = threshold_for_share(self.fraction, lambda: (as_scored(row.nll_P()) for row in split.rows()))
        return replace(self, threshold_nats=found)

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        nll_P, threshold = row.nll_P(), self.threshold_nats
        if self.scope == "row":
            threshold = threshold_for_share(self.fraction, lambda: [as_scored(nll_P)])
        return Decision(not_above(nll_P, threshold))


@dataclass(frozen=True, slots=True)
class NllBudget:
    """Leave out the most unlikely tokens that hold FRACTION of the summed nll, of all rows or of each row (:row).

    Formula: STM with the smallest threshold so that the candidates above it hold at most FRACTION of the candidates'
    nll. Source: our own, after arXiv 2501.14315, where the 21 % of the tokens that are left out hold 94 % of the nll:
    this fixes the second number and lets the first follow.
    """

    fraction: float
    scope: Scope = "split"
    threshold_nats: float = math.inf
    usage: ClassVar[str] = "nll_budget:FRACTION[:row]"
    traits: ClassVar[Traits] = Traits()

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        fraction, scope = fraction_and_scope(argument, cls.usage, "a fraction of the nll")
        return cls(fraction, scope)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        if self.scope == "row":
            return self
        found = threshold_for_sum(self.fraction, lambda: (as_scored(row.nll_P()) for row in split.rows()))
        return replace(self, threshold_nats=found)

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        nll_P, threshold = row.nll_P(), self.threshold_nats
        if self.scope == "row":
            threshold = threshold_for_sum(self.fraction, lambda: [as_scored(nll_P)])
        return Decision(not_above(nll_P, threshold))


def perplexity(text: str, usage: str) -> float:
    """A perplexity of at least 1.

    Raises:
        InputError: it is none.
    """
    return number(text, usage, low=1.0, what="a perplexity of at least 1")


def fraction_and_scope(argument: str, usage: str, what: str) -> tuple[float, Scope]:
    """The fraction and the scope of ``FRACTION[:row]``.

    Raises:
        InputError: the argument is spelled otherwise.
    """
    text, colon, scope = argument.partition(":")
    fraction = number(text, usage, low=0.0, high=1.0, what=f"{what} between 0 and 1")
    if colon and scope != "row":
        raise InputError(
            f"expected row or nothing behind the fraction, got {scope!r}", where=usage.partition(":")[0], fix=usage
        )
    return fraction, "row" if colon else "split"


def not_above(value_P: Factors, threshold: float) -> Factors:
    """1 where the value is not above the threshold, 0 where it is."""
    return (value_P <= threshold).astype(np.float64)


def as_scored(value_P: Factors) -> FloatArray:
    """Values as the float32 numbers that the scores are."""
    return value_P.astype(np.float32)
