"""A training set under its scorer: one streaming pass over its rows, one :class:`Profile`."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from tokensieve.analysis.results import ClassShare, Histogram, Profile, ThresholdShare
from tokensieve.errors import InputError
from tokensieve.selection.token_classes import TokenClass, token_class
from tokensieve.types import BASE_SCORER, BoolArray, FloatArray, IntArray, Scored, Selected

THRESHOLDS: Final = (1.5, 2.0, 2.5, 3.0, 5.0, 10.0, 25.0, 100.0, 1000.0)
"""Perplexities for which shares are taken by default: those of the paper's tables and ablation."""
PERPLEXITY_STEPS: Final = (1.1, 1.5, 2.5, 5.0, 10.0, 100.0, 1000.0)
"""Perplexities above which a token's colour deepens, on the report's page and in the terminal."""
ERROR_BAND_NATS: Final = 1e-5
"""Largest difference in nats between two float32 computations of the same nll."""

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
    tally = _Tally(thresholds, decided, band_nats, piece)
    for row in rows:
        tally.add(row, scorer)
    return tally.profile(scorer)


@dataclass(slots=True)
class _RowSums:
    """Rows and their response tokens, scored or not."""

    rows: int = 0
    with_response: int = 0
    response: int = 0
    trained: int = 0
    trained_fractions: float = 0.0

    def add(self, response: int, trained: int) -> None:
        """Count one row by its response tokens and those of them that are trained."""
        self.rows += 1
        self.response += response
        self.trained += trained
        if response:
            self.with_response += 1
            self.trained_fractions += trained / response


@dataclass(slots=True)
class _NllSums:
    """Nll in nats of the scored response tokens."""

    rows: int = 0
    tokens: int = 0
    nll: float = 0.0
    nll_kept: float = 0.0
    weight_kept: float = 0.0
    sentence_perplexities: float = 0.0

    def add(self, nll_T: NDArray[np.float64], weight_T: FloatArray) -> None:
        """Count one row's scored tokens; a weight of 0 is not trained."""
        self.rows += 1
        self.tokens += len(nll_T)
        self.nll += float(nll_T.sum())
        self.nll_kept += float((nll_T * weight_T).sum())
        self.weight_kept += float(weight_T.sum())
        self.sentence_perplexities += math.exp(nll_T.mean())


class _ThresholdSums:
    """Sums over the tokens above each of several thresholds."""

    def __init__(self, thresholds: Sequence[float]) -> None:
        self._thresholds = thresholds
        self._limits_nats = np.log(np.asarray(thresholds, dtype=np.float64))
        self._tokens, self._fractions, self._nll = np.zeros((3, len(thresholds)))

    def add(self, nll_T: NDArray[np.float64]) -> None:
        """Count one row's scored tokens."""
        above = nll_T[None, :] > self._limits_nats[:, None]
        self._tokens += above.sum(axis=1)
        self._fractions += above.mean(axis=1)
        self._nll += (above * nll_T[None, :]).sum(axis=1)

    def shares(self, whole: _NllSums) -> tuple[ThresholdShare, ...]:
        """The sums as shares of all scored tokens."""
        return tuple(
            ThresholdShare(
                threshold=threshold,
                tokens_pooled=_ratio(float(tokens), whole.tokens),
                tokens_mean=_ratio(float(fractions), whole.rows),
                nll_pooled=_ratio(float(nll), whole.nll),
            )
            for threshold, tokens, fractions, nll in zip(
                self._thresholds, self._tokens, self._fractions, self._nll, strict=True
            )
        )


class _Bins:
    """Scored response tokens by perplexity."""

    def __init__(self) -> None:
        self._all, self._trained = np.zeros((2, len(_EDGES) - 1), dtype=np.int64)

    def add(self, nll_T: NDArray[np.float64], train_T: BoolArray) -> None:
        """Count one row's scored tokens; what lies beyond the last edge is in the last bin."""
        last = len(self._all) - 1
        bin_T = np.clip(nll_T / math.log(10) * _BINS_A_DECADE, 0, last).astype(np.int64)
        self._all += np.bincount(bin_T, minlength=last + 1)
        self._trained += np.bincount(bin_T[train_T], minlength=last + 1)

    def histogram(self) -> Histogram:
        """The counts with their edges."""
        return Histogram(edges=_EDGES, counts=tuple(self._all.tolist()), trained=tuple(self._trained.tolist()))


class _ClassSums:
    """Scored response tokens by what they are made of, and those of them above a threshold."""

    def __init__(self, piece: Callable[[int], str]) -> None:
        self._piece = piece
        self._tokens: Counter[TokenClass] = Counter()
        self._above: Counter[TokenClass] = Counter()
        self._class_of: dict[int, TokenClass] = {}  # at most one entry for each of the vocabulary

    def add(self, ids_T: IntArray, ends_T: BoolArray, above_T: BoolArray) -> None:
        """Count one row's scored tokens; end-of-turn tokens are special whatever their text."""
        self._tokens["special"] += int(ends_T.sum())
        self._above["special"] += int((ends_T & above_T).sum())
        ids, place_T = np.unique(ids_T[~ends_T], return_inverse=True)
        counts = np.bincount(place_T, minlength=len(ids))
        counts_above = np.bincount(place_T[above_T[~ends_T]], minlength=len(ids))
        for token_id, count, above in zip(ids.tolist(), counts.tolist(), counts_above.tolist(), strict=True):
            if token_id not in self._class_of:
                self._class_of[token_id] = token_class(self._piece(token_id))
            self._tokens[self._class_of[token_id]] += count
            self._above[self._class_of[token_id]] += above

    def shares(self) -> tuple[ClassShare, ...]:
        """The classes that occur, in the order of their definition."""
        return tuple(
            ClassShare(token_class=kind, tokens=self._tokens[kind], above=self._above[kind])
            for kind in get_args(TokenClass)
            if self._tokens[kind]
        )


class _Tally:
    """Sums over the rows seen so far."""

    def __init__(
        self,
        thresholds: Sequence[float],
        threshold_nats: float | None,
        band_nats: float,
        piece: Callable[[int], str] | None,
    ) -> None:
        self._threshold_nats = threshold_nats
        self._band_nats = band_nats
        self._near = 0
        self._rows = _RowSums()
        self._nll = _NllSums()
        self._above = _ThresholdSums(thresholds)
        self._bins = _Bins()
        self._classes = None if piece is None else _ClassSums(piece)

    def add(self, row: Selected | Scored, scorer: str) -> None:
        """Count one row."""
        scored = row.scored if isinstance(row, Selected) else row
        tokens = scored.tokens
        train_T = row.train_T if isinstance(row, Selected) else tokens.in_response_T
        self._rows.add(int(tokens.in_response_T.sum()), int(train_T.sum()))
        all_nll_T = scored.nll_T(scorer)
        seen_T = tokens.in_response_T & ~np.isnan(all_nll_T)
        if not seen_T.any():
            return
        nll_T = all_nll_T[seen_T].astype(np.float64)
        self._nll.add(nll_T, _weights(row, train_T)[seen_T])
        self._above.add(nll_T)
        self._bins.add(nll_T, train_T[seen_T])
        limit = math.inf if self._threshold_nats is None else self._threshold_nats
        self._near += int((np.abs(nll_T - limit) <= self._band_nats).sum())
        if self._classes is not None:
            self._classes.add(tokens.ids_T[seen_T], tokens.ends_turn_T[seen_T], nll_T > limit)

    def profile(self, scorer: str) -> Profile:
        """The sums as a profile."""
        rows, nll, decided = self._rows, self._nll, self._threshold_nats
        return Profile(
            scorer=scorer,
            rows=rows.rows,
            response_tokens=rows.response,
            scored_tokens=nll.tokens,
            trained_tokens=rows.trained,
            trained_pooled=_ratio(rows.trained, rows.response),
            trained_mean=_ratio(rows.trained_fractions, rows.with_response),
            nll_left_out=_ratio(max(0.0, nll.nll - nll.nll_kept), nll.nll),
            nll_per_token=_ratio(nll.nll, nll.tokens),
            nll_per_trained_token=_ratio(nll.nll_kept, nll.weight_kept),
            sentence_perplexity=_finite(_ratio(nll.sentence_perplexities, nll.rows)),
            histogram=self._bins.histogram(),
            shares=self._above.shares(nll),
            threshold=None if decided is None else math.exp(decided),
            near_threshold=None if decided is None else self._near,
            band=None if decided is None else self._band_nats,
            classes=() if self._classes is None else self._classes.shares(),
        )


def _weights(row: Selected | Scored, train_T: BoolArray) -> FloatArray:
    if isinstance(row, Selected) and row.weight_T is not None:
        return row.weight_T
    return train_T.astype(np.float32)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
