"""Which tokens teach: policies, and their decision on one row. Pure; the only place that knows a threshold.

A policy is written as text: ``plain`` · ``stm:2.5`` (leave out response tokens of a perplexity above 2.5) ·
``share:0.1`` (leave out the tenth of the response tokens with the highest perplexity, pooled over the training
split) · ``random:stm:2.5`` and ``lowest:stm:2.5`` (leave out as many of each row as ``stm:2.5`` would, at random or
the most likely ones) · ``soft:2.5`` (weight ``min(1, 2.5 / perplexity)``).

End-of-turn tokens are protected: always trained and outside the pool that a policy draws from, because a model
whose stop token is never trained does not stop. ``paper_exact`` lifts that.
"""

import difflib
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.types import BoolArray, FloatArray, Scored, Selected

Kind = Literal["plain", "stm", "share", "random", "lowest", "soft"]
_MATCHED = ("random", "lowest")


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as written.

    Attributes:
        kind: its name.
        value: perplexity for stm and soft, fraction of the pooled tokens for share; None for the others.
        like: for random and lowest, the policy whose number of left-out tokens they match row by row.
    """

    kind: Kind
    value: float | None = None
    like: "Policy | None" = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy that knows its threshold on the data at hand.

    Attributes:
        policy: what was asked.
        threshold_nats: tokens with an nll strictly above it are left out; infinite for plain.
        settings: scorer, protection, seed.
    """

    policy: Policy
    threshold_nats: float
    settings: SelectSettings


def parse_policy(text: str) -> Policy:
    """Read a policy from its text.

    Raises:
        InputError: unknown name (the nearest one is named), a missing or impossible value.
    """
    kind, _, rest = text.strip().partition(":")
    known = get_args(Kind)
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown policy {text!r}", fix=f"{hint}known: {', '.join(known)}, e.g. stm:2.5")
    if kind == "plain":
        if rest:
            raise InputError(f"plain takes no value, got {text!r}", fix="plain")
        return Policy("plain")
    if kind in _MATCHED:
        like = parse_policy(rest) if rest else None
        if like is None or like.kind not in ("stm", "share"):
            raise InputError(f"{text!r} does not say whose number of left-out tokens it matches", fix=f"{kind}:stm:2.5")
        return Policy(cast(Kind, kind), like=like)
    try:
        value = float(rest)
    except ValueError:
        value = math.nan
    if kind == "share" and not 0.0 <= value <= 1.0:
        raise InputError(f"share takes a fraction of the tokens between 0 and 1, got {text!r}", fix="share:0.1")
    if kind != "share" and not value >= 1.0:
        raise InputError(f"{kind} takes a perplexity of at least 1, got {text!r}", fix=f"{kind}:2.5")
    return Policy(cast(Kind, kind), value)


def fit(settings: SelectSettings, passes: Callable[[], Iterable[Scored]]) -> Rule:
    """Find the policy's threshold on a training split.

    Args:
        settings: the policy and who is protected.
        passes: starts a fresh pass over the rows; called twice for share, else not at all. Memory does not grow
            with the number of rows.

    Raises:
        InputError: the policy's text is wrong, or a response token has no score.
    """
    policy = parse_policy(settings.policy)
    source = policy.like or policy
    if source.kind == "share":
        threshold = _threshold_for_share(
            cast(float, source.value), lambda: (row.nll_T(settings.scorer)[_pool(row, settings)] for row in passes())
        )
    elif source.kind in ("stm", "soft"):
        threshold = math.log(cast(float, source.value))
    else:
        threshold = math.inf
    return Rule(policy, threshold, settings)


def select_tokens(row: Scored, rule: Rule) -> Selected:
    """Decide for every token of one row whether it contributes to the loss.

    Raises:
        InputError: the scorer's scores are missing, or a response token has none.
    """
    kind, settings = rule.policy.kind, rule.settings
    in_response_T = row.tokens.in_response_T
    if kind == "plain":
        return Selected(row, in_response_T.copy())
    pool_T = _pool(row, settings)
    nll_T = row.nll_T(settings.scorer)
    above_T = pool_T & (nll_T.astype(np.float64) > rule.threshold_nats)
    if kind == "soft":
        return Selected(row, in_response_T.copy(), _soft_weights(nll_T, pool_T, in_response_T, rule.threshold_nats))
    if kind in _MATCHED:
        above_T = _matched(row, pool_T, nll_T, int(above_T.sum()), rule)
    return Selected(row, in_response_T & ~above_T)


def _pool(row: Scored, settings: SelectSettings) -> BoolArray:
    """Tokens that a policy may leave out.

    Raises:
        InputError: one of them has no score.
    """
    tokens = row.tokens
    pool_T = tokens.in_response_T if settings.paper_exact else tokens.in_response_T & ~tokens.ends_turn_T
    unscored_T = pool_T & np.isnan(row.nll_T(settings.scorer))
    if bool(unscored_T.any()):
        raise InputError(
            f"response token {int(np.argmax(unscored_T))} has no score by {settings.scorer!r}",
            where=f"row {tokens.id}",
            fix="score the data set again with this version",
        )
    return pool_T


def _soft_weights(nll_T: FloatArray, pool_T: BoolArray, in_response_T: BoolArray, threshold_nats: float) -> FloatArray:
    weight_T = in_response_T.astype(np.float32)
    weight_T[pool_T] = np.exp(np.minimum(0.0, threshold_nats - nll_T[pool_T].astype(np.float64)))
    return weight_T


def _matched(row: Scored, pool_T: BoolArray, nll_T: FloatArray, count: int, rule: Rule) -> BoolArray:
    """As many tokens of the pool as ``count``: at random without replacement, or the most likely ones."""
    places = np.flatnonzero(pool_T)
    if rule.policy.kind == "random":
        digest = hashlib.sha256(f"{rule.settings.seed}/{row.tokens.id}".encode()).digest()
        chosen = np.random.default_rng(int.from_bytes(digest[:8], "big")).choice(places, size=count, replace=False)
    else:
        chosen = places[np.argsort(nll_T[places], kind="stable")[:count]]
    left_out_T = np.zeros(len(pool_T), dtype=np.bool_)
    left_out_T[chosen] = True
    return left_out_T


def _threshold_for_share(share: float, passes: Callable[[], Iterable[FloatArray]]) -> float:
    """The smallest threshold above which at most ``share`` of all values lie; exact, in two passes, constant memory.

    Float32 values sort like their bit patterns, so a histogram of the upper 16 bits finds the bin and one of
    the lower 16 bits, within that bin, the value.
    """
    upper = np.zeros(1 << 16, dtype=np.int64)
    for values in passes():
        upper += np.bincount(_sortable(values) >> 16, minlength=1 << 16)
    total = int(upper.sum())
    left_out = math.floor(share * total + 1e-9)
    if left_out == 0:
        return math.inf
    if left_out == total:
        return -math.inf
    rank = total - 1 - left_out  # in ascending order, the largest value that stays
    bin_ = int(np.searchsorted(np.cumsum(upper), rank, side="right"))
    rank -= int(upper[:bin_].sum())
    lower = np.zeros(1 << 16, dtype=np.int64)
    for values in passes():
        bits = _sortable(values)
        lower += np.bincount(bits[bits >> 16 == bin_] & 0xFFFF, minlength=1 << 16)
    low = int(np.searchsorted(np.cumsum(lower), rank, side="right"))
    return float(_unsortable(np.array([bin_ << 16 | low], dtype=np.uint32))[0])


def _sortable(values: FloatArray) -> NDArray[np.uint32]:
    """Bit patterns that sort as the floats do, negative ones included."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)


def _unsortable(bits: NDArray[np.uint32]) -> FloatArray:
    """Inverse of ``_sortable``."""
    return np.where(bits >> 31 == 1, bits & np.uint32(0x7FFFFFFF), ~bits).astype(np.uint32).view(np.float32)
