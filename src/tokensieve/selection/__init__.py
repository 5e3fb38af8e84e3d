"""Policies, and their decision on the tokens of one row: pure functions of stored scores.

A policy is written as text, e.g. ``stm:2.5``, ``share:0.1``, ``random:stm:2.5``, ``stm:10 & keep:first:4``; the names
are those of ``POLICIES``. Structural tokens (end of turn, tool-call delimiters, reasoning tags) are protected: always
trained and outside the pool that a policy decides on, since a model whose stop token is never trained does not stop.
``paper_exact`` lifts that.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import numpy as np

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.selection.combine import PolicyFunction, UserFunction, code_digest
from tokensieve.selection.policy import (
    EAFT_TOP_K,
    Candidates,
    Decision,
    Policy,
    TrainingSplit,
    Traits,
    protected_T,
    structure_ids,
)
from tokensieve.selection.registry import POLICIES, parse_policy, policy_lines
from tokensieve.types import BoolArray, Scored, Selected, Tokens

__all__ = [
    "EAFT_TOP_K",
    "POLICIES",
    "Candidates",
    "Decision",
    "Policy",
    "PolicyFunction",
    "PolicyLike",
    "Rule",
    "TrainingSplit",
    "Traits",
    "as_policy",
    "code_digest",
    "fit",
    "parse_policy",
    "policy_lines",
    "select_tokens",
    "structure_ids",
]

PolicyLike: TypeAlias = str | Policy | PolicyFunction
"""A policy as text, as an object, or as the user's own function."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy fitted to the data at hand.

    Attributes:
        policy: the fitted policy.
        settings: scorer, protection and its cap, seed.
        structure: token ids of structural tokens beside end of turn, by kind, as ``structure_ids`` gives them.
    """

    policy: Policy
    settings: SelectSettings
    structure: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def threshold_nats(self) -> float:
        """The nll above which tokens are left out; infinite where no single one decides."""
        return self.policy.threshold_nats

    @property
    def weighted(self) -> bool:
        """True where tokens get weights between 0 and 1, from the policy or from a cap on protected ones."""
        return self.policy.traits.weighted or self.settings.protect_cap is not None

    def protected_T(self, tokens: Tokens) -> BoolArray:
        """True on the response tokens that are trained whatever the policy says."""
        return protected_T(tokens, self.settings, self.structure)


def as_policy(policy: PolicyLike) -> Policy:
    """The policy of a text, an object, or a function.

    Raises:
        InputError: as in ``parse_policy``.
    """
    if isinstance(policy, str):
        return parse_policy(policy)
    if hasattr(policy, "traits"):
        return cast(Policy, policy)
    if not callable(policy):
        raise InputError(
            f"expected a policy, got {type(policy).__name__}", where="policy", fix='"stm:2.5", Stm(2.5), or a function'
        )
    return UserFunction.of(policy)


def fit(
    settings: SelectSettings,
    passes: Callable[[], Iterable[Scored]],
    *,
    policy: Policy | None = None,
    structure: Mapping[str, Sequence[int]] | None = None,
    top_k: Mapping[str, int] | None = None,
    piece: Callable[[int], str] | None = None,
) -> Rule:
    """Fit a policy to a training split.

    Args:
        settings: the policy, the scorer, and the tokens that are protected.
        passes: starts a fresh pass over the rows; called for policies that take something from all of them, at most
            a few times. Memory does not grow with the number of rows.
        policy: a policy object in place of the settings' text.
        structure: token ids of structural tokens by kind, as ``structure_ids`` gives them.
        top_k: by scorer name, the number of likeliest entries that its top-k entropies are of.
        piece: token id to text, empty for special tokens, for policies that read texts.

    Raises:
        InputError: the policy's text is wrong, or scores or texts that it needs are missing.
    """
    ids = structure or {}
    chosen = policy or parse_policy(settings.policy)

    def rows() -> Iterable[Candidates]:
        return (_candidates(row, settings, ids) for row in passes())

    return Rule(chosen.fit(TrainingSplit(rows, settings.scorer, top_k or {}, piece)), settings, ids)


def select_tokens(row: Scored, rule: Rule) -> Selected:
    """Decide for every token of one row whether, and with which weight, it contributes to the loss.

    A token of weight 0 is left out. With a cap c, the loss of a protected token counts min(1, c / nll), so that none
    adds more than c nats; the row's own scores decide, and a protected token without a score counts whole.

    Raises:
        InputError: scores that the policy needs are missing.
    """
    candidates = _candidates(row, rule.settings, rule.structure)
    decision = rule.policy.select(candidates)
    in_response_T = row.tokens.in_response_T
    weight_T = np.where(in_response_T, np.float32(decision.protected), np.float32(0))
    weight_T[candidates.pool_T] = decision.factor_P
    cap = rule.settings.protect_cap
    if cap is not None:
        protected_T = in_response_T & ~candidates.pool_T
        nll_P = np.nan_to_num(row.nll_T(rule.settings.scorer)[protected_T], nan=0.0)
        weight_T[protected_T] *= np.float32(cap) / np.maximum(nll_P, np.float32(cap))
    train_T = in_response_T & (weight_T > 0)
    return Selected(row, train_T, weight_T.astype(np.float32) if rule.weighted else None)


def _candidates(row: Scored, settings: SelectSettings, structure: Mapping[str, Sequence[int]]) -> Candidates:
    pool_T = row.tokens.in_response_T & ~protected_T(row.tokens, settings, structure)
    return Candidates(row, pool_T, settings.scorer, settings.seed)
