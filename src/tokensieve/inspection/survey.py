"""Profile of a selection before training: what is left out, by class, token, row and source."""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from tokensieve.analysis import Profile, TokenClass, profile, token_class
from tokensieve.inspection.results import (
    AffectedRow,
    LeftOutClass,
    MaskedToken,
    NearThreshold,
    Protected,
    SourceProfile,
)
from tokensieve.types import BoolArray, Selected, Tokens

NEAR_NATS: Final = (1e-5, 0.01, 0.1, 0.3)
"""Distances from the threshold that are counted: the error of float32 and of bfloat16 scores lies within the first and
the third, vLLM's difference to transformers within the last."""
SOURCES: Final = 20
"""Most sources that are shown by themselves."""
OTHERS: Final = "all others"


@dataclass(frozen=True, slots=True)
class Survey:
    """All that one inspection knows of the rows themselves; see the fields of ``Inspection``."""

    whole: Profile
    sources: tuple[SourceProfile, ...]
    classes: tuple[LeftOutClass, ...]
    most_masked: tuple[MaskedToken, ...]
    most_affected: tuple[AffectedRow, ...]
    near: tuple[NearThreshold, ...]
    protected: Protected


@dataclass(slots=True)
class _TokenSums:
    """Tokens of one id, or of one class."""

    tokens: int = 0
    left_out: int = 0
    nll_of_left_out: float = 0.0
    nll_left_out: float = 0.0

    def add(self, other: "_TokenSums") -> None:
        self.tokens += other.tokens
        self.left_out += other.left_out
        self.nll_of_left_out += other.nll_of_left_out
        self.nll_left_out += other.nll_left_out


def survey(
    passes: Callable[[], Iterator[Selected]],
    *,
    scorer: str,
    thresholds: Sequence[float],
    threshold_nats: float,
    error_nats: float,
    piece: Callable[[int], str],
    protected_T: Callable[[Tokens], BoolArray],
    top: int,
) -> Survey:
    """Read a selection for its profile; memory grows with the vocabulary, not with the number of rows.

    Args:
        passes: starts a pass over the rows; called twice, and once more for every source where there are several.
        scorer: whose scores are read.
        thresholds: perplexities over which shares are taken.
        threshold_nats: the nll above which tokens were left out; infinite where no single one decides.
        error_nats: the scorer's error, for ``Profile.near_threshold``.
        piece: token id to text.
        protected_T: the protected tokens of a row.
        top: how many tokens and rows are listed.
    """
    tally = _Tally(scorer, threshold_nats, protected_T, top)
    for row in passes():
        tally.add(row)

    def profiled(rows: Iterator[Selected]) -> Profile:
        return profile(
            rows,
            scorer=scorer,
            thresholds=thresholds,
            threshold_nats=threshold_nats,
            band_nats=error_nats,
            piece=piece,
        )

    whole = profiled(passes())
    names = [name for name, _ in tally.sources.most_common()]
    shown = names if len(names) <= SOURCES else names[: SOURCES - 1]
    sources = [SourceProfile(source=name, profile=whole) for name in names if len(names) == 1]
    if len(names) > 1:
        groups = [(name, frozenset([name])) for name in shown]
        groups += [(OTHERS, frozenset(names[len(shown) :]))] if len(names) > len(shown) else []
        sources = [
            SourceProfile(source=name, profile=profiled(row for row in passes() if source_of(row.tokens) in members))
            for name, members in groups
        ]
    return Survey(
        whole=whole,
        sources=tuple(sources),
        classes=tally.classes(piece),
        most_masked=tally.most_masked(piece),
        most_affected=tally.most_affected(),
        near=tally.near(),
        protected=tally.protected(),
    )


def source_of(tokens: Tokens) -> str:
    """Name of the source of a row: who wrote the response, and of which task."""
    return f"{tokens.origin}/{tokens.task}" if tokens.task else str(tokens.origin)


@dataclass(slots=True)
class _Tally:
    """Sums over the rows seen so far."""

    scorer: str
    threshold_nats: float
    protected_T: Callable[[Tokens], BoolArray]
    top: int
    sources: Counter[str] = field(default_factory=Counter)
    _by_id: dict[int, _TokenSums] = field(default_factory=dict)
    _ends: _TokenSums = field(default_factory=_TokenSums)
    _rows: list[tuple[float, int, AffectedRow]] = field(default_factory=list)
    _near: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(NEAR_NATS), dtype=np.int64))
    _protected: int = 0
    _nll_protected: float = 0.0
    _nll_kept: float = 0.0

    def add(self, row: Selected) -> None:
        """Count one row."""
        tokens = row.tokens
        self.sources[source_of(tokens)] += 1
        protected_T = self.protected_T(tokens)
        self._protected += int(protected_T.sum())
        if self.scorer not in row.scored.scores:  # rows that were mixed in whole need none
            return
        nll_T = row.scored.nll_T(self.scorer).astype(np.float64)
        seen_T = tokens.in_response_T & ~np.isnan(nll_T)
        weight_T = (row.train_T if row.weight_T is None else row.weight_T).astype(np.float64)
        kept_T = np.where(seen_T, nll_T * weight_T, 0.0)
        self._nll_kept += float(kept_T.sum())
        self._nll_protected += float(kept_T[protected_T].sum())
        seen_nll = nll_T[seen_T]
        if math.isfinite(self.threshold_nats):
            distance = np.abs(seen_nll - self.threshold_nats)
            self._near += np.asarray([(distance <= nats).sum() for nats in NEAR_NATS])
        left_T, missing_T = seen_T & ~row.train_T, np.where(seen_T, nll_T * (1 - weight_T), 0.0)
        for chosen_T, into in ((seen_T & ~tokens.ends_turn_T, None), (seen_T & tokens.ends_turn_T, self._ends)):
            self._add_tokens(tokens.ids_T[chosen_T], left_T[chosen_T], nll_T[chosen_T], missing_T[chosen_T], into)
        self._add_row(tokens.id, seen_nll, int(left_T.sum()), float(missing_T.sum()))

    def _add_tokens(
        self,
        ids_P: NDArray[np.int32],
        left_P: BoolArray,
        nll_P: NDArray[np.float64],
        missing_P: NDArray[np.float64],
        into: _TokenSums | None,
    ) -> None:
        """Count the scored tokens at P places: each under its id, or all in one."""
        ids, place_P = np.unique(ids_P, return_inverse=True)
        columns = (None, left_P, left_P * nll_P, missing_P)
        sums = [np.bincount(place_P, weights=column, minlength=len(ids)).tolist() for column in columns]
        for token, count, left, nll, missing in zip(ids.tolist(), *sums, strict=True):
            target = into if into is not None else self._by_id.setdefault(token, _TokenSums())
            target.add(_TokenSums(int(count), int(left), nll, missing))

    def _add_row(self, row_id: str, nll: NDArray[np.float64], left_out: int, missing: float) -> None:
        if missing <= 0:
            return
        affected = AffectedRow(
            id=row_id,
            response_tokens=len(nll),
            left_out=left_out,
            nll_left_out=missing,
            nll_share=missing / float(nll.sum()),
        )
        entry = (missing, -sum(self.sources.values()), affected)  # of equal rows the earlier one
        if len(self._rows) < self.top:
            heapq.heappush(self._rows, entry)
        else:
            heapq.heappushpop(self._rows, entry)

    def classes(self, piece: Callable[[int], str]) -> tuple[LeftOutClass, ...]:
        """The classes that occur, most left out first; end-of-turn tokens are special whatever their text."""
        sums: dict[TokenClass, _TokenSums] = {kind: _TokenSums() for kind in get_args(TokenClass)}
        sums["special"].add(self._ends)
        for token, one in self._by_id.items():
            sums[token_class(piece(token))].add(one)
        made = [
            LeftOutClass(token_class=kind, tokens=s.tokens, left_out=s.left_out, nll_left_out=s.nll_left_out)
            for kind, s in sums.items()
            if s.tokens
        ]
        return tuple(sorted(made, key=lambda one: (-one.left_out, -one.tokens)))

    def most_masked(self, piece: Callable[[int], str]) -> tuple[MaskedToken, ...]:
        """Tokens by text, most often left out first."""
        by_text: dict[str, _TokenSums] = {}
        for token, one in self._by_id.items():
            by_text.setdefault(piece(token), _TokenSums()).add(one)
        if self._ends.left_out:
            by_text.setdefault("(end of turn)", _TokenSums()).add(self._ends)
        ranked = sorted(by_text.items(), key=lambda entry: (-entry[1].left_out, -entry[1].nll_left_out, entry[0]))
        return tuple(
            MaskedToken(text=text, tokens=s.tokens, left_out=s.left_out, mean_nll=s.nll_of_left_out / s.left_out)
            for text, s in ranked[: self.top]
            if s.left_out
        )

    def most_affected(self) -> tuple[AffectedRow, ...]:
        """Rows, most nll left out first."""
        return tuple(row for _, _, row in sorted(self._rows, key=lambda entry: entry[:2], reverse=True))

    def near(self) -> tuple[NearThreshold, ...]:
        """Tokens near the threshold by distance; empty where no threshold decides."""
        if not math.isfinite(self.threshold_nats):
            return ()
        return tuple(
            NearThreshold(within_nats=nats, tokens=count)
            for nats, count in zip(NEAR_NATS, self._near.tolist(), strict=True)
        )

    def protected(self) -> Protected:
        """The protected tokens."""
        share = self._nll_protected / self._nll_kept if self._nll_kept > 0 else None
        return Protected(tokens=self._protected, share_of_kept_nll=share)
