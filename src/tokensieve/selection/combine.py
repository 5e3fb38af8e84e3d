"""Policies made of others: combinations with ``&``, another scorer by ``@``, exemptions, and the user's function."""

import hashlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.selection.policy import Candidates, Decision, Policy, TrainingSplit, Traits, number
from tokensieve.types import Scored
from tokensieve.user_code import function_digest, load_function

PolicyFunction: TypeAlias = Callable[[Scored], NDArray[np.generic]]
"""A user's own policy: a scored row to one value a token, ``[T]``: flags (True trains), or weights in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the first or the last N tokens of every assistant turn, whatever the policies beside it leave out.

    Formula: the factor of these tokens is 1. Stands beside others only: ``stm:10 & keep:first:4``. Source: our own;
    the first tokens of an answer carry its form, and their perplexity is high for that reason.
    """

    end: Literal["first", "last"]
    tokens: int
    usage: ClassVar[str] = "keep:first:N, keep:last:N"
    traits: ClassVar[Traits] = Traits(trains_all=True, exempts=True)
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        end, _, count = argument.partition(":")
        if end not in ("first", "last"):
            raise InputError(f"expected first or last, got {end!r}", where="keep", fix="keep:first:4")
        tokens = number(count, cls.usage, low=1, what="a number of tokens, 1 or more,")
        if tokens != int(tokens):
            raise InputError(f"expected a whole number of tokens, got {count!r}", where="keep", fix="keep:first:4")
        return cls("first" if end == "first" else "last", int(tokens))

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``: 1 on the tokens that are kept, 0 on those that it has no say in."""
        from_start_P, from_end_P = row.turn_places_P()
        return Decision(((from_start_P if self.end == "first" else from_end_P) < self.tokens).astype(np.float64))


@dataclass(frozen=True, slots=True)
class Combined:
    """Policies side by side: left out is what any of them leaves out, weights are multiplied, ``keep`` wins.

    Formula: the product of the parts' factors; 1 on tokens that a ``keep`` names. Source: our own.
    """

    parts: tuple[Policy, ...]
    usage: ClassVar[str] = "POLICY & POLICY"

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        each = [part.traits for part in self.parts if not part.traits.exempts]
        return Traits(
            trains_all=all(one.trains_all for one in each),
            control=any(one.control for one in each),
            seeded=any(one.seeded for one in each),
            weighted=any(one.weighted for one in each),
            whole_rows=all(one.whole_rows for one in each),
            token_texts=any(part.traits.token_texts for part in self.parts),
            needs=tuple(dict.fromkeys(need for one in each for need in one.needs)),
            other_scorers=tuple(dict.fromkeys(name for one in each for name in one.other_scorers)),
        )

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``: the lowest of the parts'."""
        return min(part.threshold_nats for part in self.parts)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        from tokensieve.selection.registry import parse_term, split_terms

        parts = tuple(parse_term(term) for term in split_terms(argument))
        if all(part.traits.exempts for part in parts):
            raise InputError(
                f"{argument.strip()} keeps tokens, but nothing beside it leaves any out",
                where="policy",
                fix=f"stm:2.5 & {argument.strip()}",
            )
        return cls(parts)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, parts=tuple(part.fit(split) for part in self.parts))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        factor_P, protected = np.ones(len(row)), 1.0
        for part in self.parts:
            if not part.traits.exempts:
                decision = part.select(row)
                factor_P, protected = factor_P * decision.factor_P, protected * decision.protected
        for part in self.parts:
            if part.traits.exempts:
                factor_P = np.maximum(factor_P, part.select(row).factor_P * protected)
        return Decision(factor_P, protected)


@dataclass(frozen=True, slots=True)
class OfScorer:
    """A policy by the scores of another model than the settings' scorer: ``stm:2.5@larger``.

    Formula: the policy's, with the nll by that scorer. Source: arXiv 2501.14315, whose ablation
    has a larger model's scores choose the tokens.
    """

    policy: Policy
    scorer: str
    usage: ClassVar[str] = "POLICY@SCORER"
    threshold_nats: ClassVar[float] = math.inf

    @property
    def traits(self) -> Traits:
        """See ``Policy``."""
        inner = self.policy.traits
        return replace(inner, other_scorers=tuple(dict.fromkeys((self.scorer, *inner.other_scorers))))

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        from tokensieve.selection.registry import parse_policy

        policy, _, scorer = argument.rpartition("@")
        return cls(parse_policy(policy), scorer)

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, policy=self.policy.fit(split.by(self.scorer)))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return self.policy.select(row.by(self.scorer))


@dataclass(frozen=True, slots=True)
class UserFunction:
    """A function of the user's own, as ``file.py:name``: a ``Scored`` row to flags or weights, one a token.

    The function gets the whole row, with ``@SCORER`` that scorer's scores as the base's, and returns an array ``[T]``:
    booleans (True trains the token), or floats in [0, 1] (the factor of its loss). What it says of prompt and protected
    tokens has no effect. All rows must give the same of the two. Formula and source: the user's; the interface
    is our own.
    """

    place: str
    function: PolicyFunction | None = None
    weighted: bool = False
    usage: ClassVar[str] = "FILE.py:NAME"
    threshold_nats: ClassVar[float] = math.inf

    @property
    def traits(self) -> Traits:
        """See ``Policy``; ``weighted`` is known once it is fitted."""
        return Traits(weighted=self.weighted)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(argument)

    @classmethod
    def of(cls, function: PolicyFunction) -> Self:
        """The policy of a function that is at hand in Python."""
        name = getattr(function, "__qualname__", type(function).__name__)
        return cls(f"{getattr(function, '__module__', '')}:{name}", function)

    def loaded(self) -> PolicyFunction:
        """The function, imported from its file where it is not at hand.

        Raises:
            InputError: there is no such file or function, or importing it fails.
        """
        return self.function or cast(PolicyFunction, load_function(self.place, Path(), "policy"))

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``: a first row tells whether the function gives flags or weights."""
        function = self.loaded()
        row = next(iter(split.rows()), None)
        weighted = row is not None and _called(function, self.place, row).dtype != np.bool_
        return replace(self, function=function, weighted=weighted)

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        found_T = _called(self.loaded(), self.place, row)
        if (found_T.dtype != np.bool_) != self.weighted:
            expected, came = ("weights", "flags") if self.weighted else ("flags", "weights")
            raise InputError(
                f"{self.place} gave {came} for this row and {expected} for the first one",
                where=f"row {row.scored.tokens.id}",
                fix="return arrays of one dtype",
            )
        return Decision(found_T[row.pool_T].astype(np.float64))


def _called(function: PolicyFunction, place: str, row: Candidates) -> NDArray[np.generic]:
    """Flags or weights of the user's function for a row, ``[T]``.

    Raises:
        InputError: another shape or dtype, or weights that are none.
    """
    where = f"row {row.scored.tokens.id}"
    found_T = np.asarray(function(row.seen()))
    length = len(row.scored.tokens)
    if found_T.shape != (length,) or found_T.dtype.kind not in "bfiu":
        raise InputError(
            f"{place} gave an array of shape {found_T.shape} and dtype {found_T.dtype}",
            where=where,
            fix=f"return {length} booleans or floats, one a token of the row",
        )
    if found_T.dtype == np.bool_:
        return found_T
    weight_T = found_T.astype(np.float64)
    bad_T = row.pool_T & ~((weight_T >= 0) & (weight_T <= 1))
    if bool(bad_T.any()):
        at = int(np.argmax(bad_T))
        raise InputError(f"{place} gave {weight_T[at]:g} for token {at}, expected a weight in [0, 1]", where=where)
    return weight_T


def code_digest(policy: Policy) -> str:
    """Digest of the code of the user's own functions in a policy; empty where it has none.

    Part of a study's keys and of a selection's inputs, since the same text selects otherwise once the function is
    changed. Of a function at hand in Python it is that of its own lines, empty where these are not known.

    Raises:
        InputError: there is no such file.
    """
    if isinstance(policy, UserFunction):
        if policy.function is not None:
            return _source_digest(policy.function)
        policy.loaded()
        return function_digest(policy.place, Path())
    if isinstance(policy, OfScorer):
        return code_digest(policy.policy)
    if isinstance(policy, Combined):
        return "".join(code_digest(part) for part in policy.parts)
    matched = getattr(policy, "matched", None)
    return "" if matched is None else code_digest(matched)


def _source_digest(function: PolicyFunction) -> str:
    lines = function if inspect.isroutine(function) else type(function)
    try:
        return hashlib.sha256(inspect.getsource(lines).encode()).hexdigest()
    except (OSError, TypeError):  # typed into a plain Python prompt, or no Python code
        return ""
