"""Controls: policies that leave out as many tokens of each row as another policy does, but other tokens."""

import hashlib
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from tokensieve.errors import InputError
from tokensieve.selection.policy import Candidates, Decision, Policy, TrainingSplit, Traits


@dataclass(frozen=True, slots=True)
class Random:
    """Leave out as many tokens of each row as POLICY does, drawn at random without replacement.

    Formula: the row's factors under POLICY, given to its candidates in random order; the draw depends on the seed and
    the row's id alone. Source: the random control of arXiv 2501.14315. Differs: the paper's code counts over prompt
    and response and draws with replacement, so that it leaves out 28 % where STM leaves out 21 %.
    """

    matched: Policy
    usage: ClassVar[str] = "random:POLICY"

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        return replace(self.matched.traits, control=True, seeded=True)

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``: of the policy that is matched."""
        return self.matched.threshold_nats

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(_matched(argument, "random"))

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, matched=self.matched.fit(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        wanted = self.matched.select(row)
        rng = np.random.default_rng(int.from_bytes(row_lot(row.seed, row.scored.tokens.id)[:8], "big"))
        trained = wanted.factor_P[wanted.factor_P > 0]
        left_out = rng.choice(len(row), size=len(row) - len(trained), replace=False)
        factor_P = np.zeros(len(row))
        stays_P = np.ones(len(row), dtype=np.bool_)
        stays_P[left_out] = False
        factor_P[stays_P] = rng.permutation(trained)
        return Decision(factor_P, wanted.protected)


@dataclass(frozen=True, slots=True)
class Lowest:
    """Leave out as many tokens of each row as POLICY does, those with the lowest nll.

    Formula: the row's factors under POLICY in ascending order, given to its candidates in ascending order of nll.
    Source: the control of arXiv 2501.14315, section 5.4. Differs: the paper's code leaves out all tokens below the
    threshold, whatever their number.
    """

    matched: Policy
    usage: ClassVar[str] = "lowest:POLICY"

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        return replace(self.matched.traits, control=True)

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``: of the policy that is matched."""
        return self.matched.threshold_nats

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(_matched(argument, "lowest"))

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, matched=self.matched.fit(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        wanted = self.matched.select(row)
        factor_P = np.zeros(len(row))
        factor_P[np.argsort(row.nll_P(), kind="stable")] = np.sort(wanted.factor_P)
        return Decision(factor_P, wanted.protected)


def row_lot(seed: int, row_id: str) -> bytes:
    """The lot of a row in a draw of rows or of their tokens: 32 bytes that depend on a seed and the row's id alone.

    Another digest than ``data.hashing.seeded_hash``: with that one all earlier draws would come out otherwise.
    """
    return hashlib.sha256(f"{seed}/{row_id}".encode()).digest()


def _matched(argument: str, name: str) -> Policy:
    """The policy whose number of left-out tokens is matched.

    Raises:
        InputError: there is none, or none that a control can be matched to.
    """
    from tokensieve.selection.registry import parse_policy

    fix = f"{name}:stm:2.5"
    if not argument:
        raise InputError(f"{name} does not say whose number of left-out tokens it matches", where="policy", fix=fix)
    matched = parse_policy(argument)
    traits = matched.traits
    reason = (
        "leaves no token out" if traits.trains_all
        else "is a control itself" if traits.control
        else "gives all tokens of a row the same weight" if traits.whole_rows
        else ""
    )  # fmt: skip
    if reason:
        raise InputError(f"{name} cannot be matched to {argument!r}, which {reason}", where="policy", fix=fix)
    return matched
