"""A training set under its scorer: one streaming pass over its rows, one :class:`Profile`."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from tokensieve.analysis.classes import token_class
from tokensieve.analysis.results import ClassShare, Histogram, Profile, ThresholdShare, TokenClass
from tokensieve.errors import InputError
from tokensieve.types import BASE_SCORER, BoolArray, FloatArray, Scored, Selected, Tokens

THRESHOLDS: Final = (1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 25.0, 100.0, 1000.0)
"""Perplexities for which shares are taken by default: those of the paper's tables and ablation."""
PERPLEXITY_STEPS: Final = (1.1, 1.5, 2.5, 5.0, 10.0, 100.0, 1000.0)
"""Perplexities above which a token's colour deepens, on the report's page and in the terminal."""
ERROR_BAND_NATS: Final = 1e-5
"""How far two float32 computations of the same nll may lie apart."""

_BINS_A_DECADE: Final = 10  # so that 10^0.4 = 2.51 and 10 are edges
_DECADES: Final = 6
_EDGES: Final = tuple(10.0 ** (k / _BINS_A_DECADE) for k in range(_BINS_A_DECADE * _DECADES + 1))


def profile(
    rows: Iterable[Selected] | Iterable[Scored],
    *,
    scorer: str = BASE_SCORER,
    thresholds: Sequence[float] = THRESHOLDS,
    threshold_nats: float | None = None,
    band_nats: float = ERROR_BAND_NATS,
    piece: Callable[[int], str] | None = None,
) -> Profile:
    """Read a training set once and say what is in its responses; memory does not grow with the number of rows.

    Args:
        rows: selected rows, or scored ones, of which every response token counts as trained.
        scorer: whose scores are read.
        thresholds: perplexities for :attr:`Profile.shares`.
        threshold_nats: the nll above which tokens were left out, as a manifest's facts give it; None or an infinite
            one (plain, or a share of 0 or 1) means that none decided.
        band_nats: the scorer's error, for :attr:`Profile.near_threshold`.
        piece: token id to text, for :attr:`Profile.classes`; None leaves them out.

    Returns:
        The profile. Tokens that have no score count as response tokens and are left out of all that has to do with
        perplexity. Of a soft selection, 1 - weight of a token's nll counts as left out.

    Raises:
        InputError: a threshold that is not a perplexity above 0, or a row without scores of that name.
    """
    bad = [t for t in thresholds if not t > 0 or math.isinf(t)]
    if bad:
        raise InputError(f"a threshold is a perplexity above 0, got {bad[0]}", where="thresholds")
    decided = None if threshold_nats is None or math.isinf(threshold_nats) else threshold_nats
    tally = _Tally(np.log(np.asarray(thresholds, dtype=np.float64)), decided, band_nats, piece)
    for row in rows:
        tally.add(row, scorer)
    return tally.profile(scorer, thresholds)


@dataclass
class _Tally:
    """Sums over the rows seen so far."""

    log_thresholds: NDArray[np.float64]
    threshold_nats: float | None
    band_nats: float
    piece: Callable[[int], str] | None
    rows: int = 0
    rows_with_response: int = 0
    rows_scored: int = 0
    response: int = 0
    scored: int = 0
    trained: int = 0
    trained_fractions: float = 0.0
    sentence_perplexities: float = 0.0
    nll: float = 0.0
    nll_kept: float = 0.0
    weight_kept: float = 0.0
    near: int = 0
    above: NDArray[np.float64] = field(init=False)
    above_fractions: NDArray[np.float64] = field(init=False)
    above_nll: NDArray[np.float64] = field(init=False)
    bins: NDArray[np.int64] = field(init=False)
    bins_trained: NDArray[np.int64] = field(init=False)
    by_class: Counter[TokenClass] = field(default_factory=Counter)
    by_class_above: Counter[TokenClass] = field(default_factory=Counter)
    class_of: dict[int, TokenClass] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.above, self.above_fractions, self.above_nll = np.zeros((3, len(self.log_thresholds)))
        self.bins, self.bins_trained = np.zeros((2, len(_EDGES) - 1), dtype=np.int64)

    def add(self, row: Selected | Scored, scorer: str) -> None:
        """Count one row."""
        scored = row.scored if isinstance(row, Selected) else row
        tokens = scored.tokens
        train_T = row.train_T if isinstance(row, Selected) else tokens.in_response_T
        self.rows += 1
        response, trained = int(tokens.in_response_T.sum()), int(train_T.sum())
        self.response += response
        self.trained += trained
        if response:
            self.rows_with_response += 1
            self.trained_fractions += trained / response
        all_nll_T = scored.nll_T(scorer)
        seen_T = tokens.in_response_T & ~np.isnan(all_nll_T)
        if seen_T.any():
            nll_T = all_nll_T[seen_T].astype(np.float64)
            self._add_nll(nll_T, train_T[seen_T], _weights(row, train_T)[seen_T])
            self._add_classes(tokens, seen_T, nll_T)

    def _add_nll(self, nll_T: NDArray[np.float64], train_T: BoolArray, weight_T: FloatArray) -> None:
        self.rows_scored += 1
        self.scored += len(nll_T)
        self.sentence_perplexities += math.exp(nll_T.mean())
        self.nll += float(nll_T.sum())
        self.nll_kept += float((nll_T * weight_T).sum())
        self.weight_kept += float(weight_T.sum())
        above = nll_T[None, :] > self.log_thresholds[:, None]
        self.above += above.sum(axis=1)
        self.above_fractions += above.mean(axis=1)
        self.above_nll += (above * nll_T[None, :]).sum(axis=1)
        bin_T = np.clip(nll_T / math.log(10) * _BINS_A_DECADE, 0, len(self.bins) - 1).astype(np.int64)
        self.bins += np.bincount(bin_T, minlength=len(self.bins))
        self.bins_trained += np.bincount(bin_T[train_T], minlength=len(self.bins))
        if self.threshold_nats is not None:
            self.near += int((np.abs(nll_T - self.threshold_nats) <= self.band_nats).sum())

    def _add_classes(self, tokens: Tokens, seen_T: BoolArray, nll_T: NDArray[np.float64]) -> None:
        if self.piece is None:
            return
        above_T = nll_T > (math.inf if self.threshold_nats is None else self.threshold_nats)
        ends_T = tokens.ends_turn_T[seen_T]
        self.by_class["special"] += int(ends_T.sum())
        self.by_class_above["special"] += int((ends_T & above_T).sum())
        ids, place_T = np.unique(tokens.ids_T[seen_T][~ends_T], return_inverse=True)
        counts = np.bincount(place_T, minlength=len(ids))
        counts_above = np.bincount(place_T[above_T[~ends_T]], minlength=len(ids))
        for token_id, count, above in zip(ids, counts, counts_above, strict=True):
            kind = self._class(int(token_id), self.piece)
            self.by_class[kind] += int(count)
            self.by_class_above[kind] += int(above)

    def _class(self, token_id: int, piece: Callable[[int], str]) -> TokenClass:
        if token_id not in self.class_of:  # at most one entry for each of the vocabulary
            self.class_of[token_id] = token_class(piece(token_id))
        return self.class_of[token_id]

    def profile(self, scorer: str, thresholds: Sequence[float]) -> Profile:
        """The sums as a profile."""
        classes = tuple(
            ClassShare(token_class=kind, tokens=self.by_class[kind], above=self.by_class_above[kind])
            for kind in get_args(TokenClass)
            if self.by_class[kind]
        )
        decided = self.threshold_nats
        return Profile(
            scorer=scorer,
            rows=self.rows,
            response_tokens=self.response,
            scored_tokens=self.scored,
            trained_tokens=self.trained,
            trained_pooled=_ratio(self.trained, self.response),
            trained_mean=_ratio(self.trained_fractions, self.rows_with_response),
            nll_left_out=_ratio(max(0.0, self.nll - self.nll_kept), self.nll),
            nll_per_token=_ratio(self.nll, self.scored),
            nll_per_trained_token=_ratio(self.nll_kept, self.weight_kept),
            sentence_perplexity=_finite(_ratio(self.sentence_perplexities, self.rows_scored)),
            histogram=Histogram(edges=_EDGES, counts=_ints(self.bins), trained=_ints(self.bins_trained)),
            shares=tuple(self._share(i, threshold) for i, threshold in enumerate(thresholds)),
            threshold=None if decided is None else math.exp(decided),
            near_threshold=None if decided is None else self.near,
            band=None if decided is None else self.band_nats,
            classes=classes,
        )

    def _share(self, index: int, threshold: float) -> ThresholdShare:
        return ThresholdShare(
            threshold=threshold,
            tokens_pooled=_ratio(float(self.above[index]), self.scored),
            tokens_mean=_ratio(float(self.above_fractions[index]), self.rows_scored),
            nll_pooled=_ratio(float(self.above_nll[index]), self.nll),
        )


def _weights(row: Selected | Scored, train_T: BoolArray) -> FloatArray:
    if isinstance(row, Selected) and row.weight_T is not None:
        return row.weight_T
    return train_T.astype(np.float32)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _ints(values: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
