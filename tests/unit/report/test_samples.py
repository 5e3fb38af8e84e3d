"""Rows for the token browser: the same rows for every arm on the same data."""

import numpy as np

from tokensieve.report import sample_rows
from tokensieve.types import Scored, Scores, Selected, Tokens, ints


def row(name: str, length: int = 4) -> Selected:
    in_response_T = np.arange(length) > 0
    tokens = Tokens(name, ints(range(length)), in_response_T, np.arange(length) == length - 1)
    nll_T = np.linspace(0, 1, length, dtype=np.float32)
    nll_T[0] = np.nan
    return Selected(Scored(tokens, {"base": Scores(nll_T)}), in_response_T & (nll_T < 0.9))


def test_the_draw_depends_on_ids_only() -> None:
    rows = [row(f"r{n}") for n in range(100)]
    drawn = [r.id for r in sample_rows(rows, str, limit=10)]
    assert drawn == [r.id for r in sample_rows(reversed(rows), str, limit=10)]
    assert drawn == [r.id for r in sample_rows([*rows[:50], *rows[50:]], str, limit=20)][:10]
    assert drawn != [f"r{n}" for n in range(10)]


def test_a_row_is_carried_over_token_by_token() -> None:
    (shown,) = sample_rows([row("r")], lambda token: f"<{token}>")
    assert shown.pieces == ("<0>", "<1>", "<2>", "<3>")
    assert shown.nll == (None, 0.3333, 0.6667, 1.0)
    assert shown.in_response == (False, True, True, True)
    assert shown.train == (False, True, True, False)
    assert shown.not_shown == 0


def test_long_rows_are_shown_from_their_beginning_and_say_so() -> None:
    (shown,) = sample_rows([row("r", 30)], str, max_tokens=10)
    assert len(shown.pieces) == len(shown.nll) == 10
    assert shown.not_shown == 20


def test_no_rows_give_none() -> None:
    assert sample_rows([], str) == ()
