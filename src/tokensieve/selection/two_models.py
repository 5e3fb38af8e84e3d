"""Policies that compare the scores of two models: dpf, stm_dpf, rho1."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from tokensieve.selection.policy import Candidates, Decision, Factors, TrainingSplit, Traits
from tokensieve.selection.thresholds import (
    Scope,
    as_scored,
    fraction_and_scope,
    not_above,
    perplexity,
    threshold_for_share,
)

TUNED_SCORER = "tuned"
"""Scorer name that dpf and stm_dpf read where none is given: a model that was fine-tuned on the data."""
REFERENCE_SCORER = "reference"
"""Scorer name that rho1 reads where none is given: a model that is better at what is to be learnt."""


@dataclass(frozen=True, slots=True)
class Dpf:
    """Leave out tokens that a fine-tuned model (SCORER, by default tuned) finds harder than the base model does.

    Formula: a candidate is trained where ``ppl_tuned - ppl_base <= 0``. Source: the difference-of-perplexity filter of
    arXiv 2501.14315, table 6, after Rho-1 (arXiv 2404.07965). Differs: in the paper's code a threshold of 0 leaves
    out nothing.
    """

    tuned: str = TUNED_SCORER
    usage: ClassVar[str] = "dpf[:SCORER]"
    threshold_nats: ClassVar[float] = math.inf

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        return Traits(other_scorers=(self.tuned,))

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(argument or TUNED_SCORER)

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(not_above(row.nll_P(self.tuned) - row.nll_P(), 0.0))


@dataclass(frozen=True, slots=True)
class StmDpf:
    """Leave out what stm:PPL or dpf:SCORER leaves out.

    Formula: a candidate is trained where ``ppl_base <= PPL`` and ``ppl_tuned <= ppl_base``. Source: arXiv 2501.14315,
    table 6 (PPL 100). The same as ``stm:PPL & dpf:SCORER``.
    """

    stm_perplexity: float
    tuned: str = TUNED_SCORER
    usage: ClassVar[str] = "stm_dpf:PPL[:SCORER]"

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        return Traits(other_scorers=(self.tuned,))

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``."""
        return math.log(self.stm_perplexity)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        ppl, _, scorer = argument.partition(":")
        return cls(perplexity(ppl, cls.usage), scorer or TUNED_SCORER)

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        base_P = row.nll_P()
        return Decision(not_above(base_P, self.threshold_nats) * not_above(row.nll_P(self.tuned) - base_P, 0.0))


@dataclass(frozen=True, slots=True)
class Rho1:
    """Train the FRACTION of the tokens with the highest nll_base - nll_reference, of all rows or of each row (:row).

    Formula: candidates ranked by excess loss ``nll_base - nll_reference``; the top FRACTION is trained, and tokens
    tied with the last of them. SCORER names the reference, by default ``reference``. Sources: Token Cleaning (arXiv
    2502.01968: one ranking over all rows); with ``:row`` as Rho-1 (arXiv 2404.07965) ranks within samples. Differs:
    Rho-1's base loss is the current model's, here the stored one.
    """

    fraction: float
    scope: Scope = "split"
    reference: str = REFERENCE_SCORER
    threshold: float = math.inf
    usage: ClassVar[str] = "rho1:FRACTION[:row][:SCORER]"
    threshold_nats: ClassVar[float] = math.inf

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        return Traits(other_scorers=(self.reference,))

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        fraction, _, rest = argument.partition(":")
        scope, _, scorer = rest.partition(":") if rest.partition(":")[0] == "row" else ("", "", rest)
        number_, found = fraction_and_scope(f"{fraction}:{scope}".rstrip(":"), cls.usage, "a fraction of the tokens")
        return cls(number_, found, scorer or REFERENCE_SCORER)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        if self.scope == "row":
            return self
        return replace(self, threshold=self._threshold(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        deficit_P = self._deficit_P(row)
        threshold = self.threshold
        if self.scope == "row":
            threshold = threshold_for_share(1 - self.fraction, lambda: [as_scored(deficit_P)])
        return Decision(not_above(deficit_P, threshold))

    def _threshold(self, split: TrainingSplit) -> float:
        return threshold_for_share(1 - self.fraction, lambda: (as_scored(self._deficit_P(row)) for row in split.rows()))

    def _deficit_P(self, row: Candidates) -> Factors:
        """``nll_reference - nll_base``, rounded to float32 as its threshold is: the higher, the less worth training."""
        deficit_P = as_scored(row.nll_P(self.reference) - row.nll_P())
        return deficit_P.astype(np.float64)
