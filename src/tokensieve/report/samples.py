"""Training rows for the token browser: a stable draw, so that arms on the same data show the same rows."""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import Final

from tokensieve.report.schema import SampleRow
from tokensieve.types import BASE_SCORER, BoolArray, Selected, Tokens

ROWS: Final = 24
"""Rows of an arm that the page shows by default."""
TOKENS: Final = 1200
"""Tokens of a row that the page shows by default."""


def sample_rows(
    rows: Iterable[Selected],
    piece: Callable[[int], str],
    *,
    limit: int = ROWS,
    max_tokens: int = TOKENS,
    scorer: str = BASE_SCORER,
    protected_T: Callable[[Tokens], BoolArray] | None = None,
) -> tuple[SampleRow, ...]:
    """Draw rows for the token browser in one pass, keeping ``limit`` of them in memory.

    The draw depends on the rows' ids and nothing else. Longer rows are shown from their beginning, and say how much
    is not shown.

    Args:
        rows: an arm's training set.
        piece: token id to text.
        limit: how many rows.
        max_tokens: how much of each.
        scorer: whose nll is shown.
        protected_T: a row's protected tokens; None is its end-of-turn tokens.

    Raises:
        InputError: a row without scores of that name.
    """
    drawn = heapq.nsmallest(limit, rows, key=lambda row: hashlib.sha256(row.tokens.id.encode()).digest())
    protected = protected_T or (lambda tokens: tokens.ends_turn_T)
    return tuple(_sample_row(row, piece, max_tokens, scorer, protected(row.tokens)) for row in drawn)


def _sample_row(
    row: Selected, piece: Callable[[int], str], max_tokens: int, scorer: str, protected_T: BoolArray
) -> SampleRow:
    tokens, shown = row.tokens, slice(max_tokens)
    nll_T = row.scored.nll_T(scorer)[shown]
    return SampleRow(
        id=tokens.id,
        pieces=tuple(piece(int(token)) for token in tokens.ids_T[shown]),
        nll=tuple(None if nll != nll else round(float(nll), 4) for nll in nll_T),
        in_response=tuple(bool(flag) for flag in tokens.in_response_T[shown]),
        train=tuple(bool(flag) for flag in row.train_T[shown]),
        protected=tuple(bool(flag) for flag in protected_T[shown]),
        not_shown=max(0, len(tokens) - max_tokens),
    )
