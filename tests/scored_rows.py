"""Rows with scores that are given, and what a policy makes of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from tokensieve.config import SelectSettings
from tokensieve.selection import fit, select_tokens
from tokensieve.types import Scored, Scores, Selected, Tokens, ints


def row(
    nlls: Sequence[float],
    name: str = "r",
    others: Mapping[str, Sequence[float]] | None = None,
) -> Scored:
    """Two prompt tokens, then a response with the given nll by the base and other scorers.

    The last token ends the turn. The top-20 entropy is half of the nll.
    """
    length = 2 + len(nlls)
    in_response_T = np.arange(length) >= 2
    ends_turn_T = np.arange(length) == length - 1
    scores = {}
    for scorer, values in {"base": nlls, **(others or {})}.items():
        nll_T = np.full(length, np.nan, dtype=np.float32)
        nll_T[2:] = values
        scores[scorer] = Scores(nll_T, top_entropy_T=(nll_T / 2).astype(np.float32))
    return Scored(Tokens(name, ints(range(length)), in_response_T, ends_turn_T), scores)


def choose(rows: Sequence[Scored], policy: str, *, paper_exact: bool = False, seed: int = 0) -> list[Selected]:
    rule = fit(SelectSettings(policy=policy, paper_exact=paper_exact, seed=seed), lambda: rows, piece=piece)
    return [select_tokens(r, rule) for r in rows]


def piece(token: int) -> str:
    """Text of a token: a number, a bracket, a word, an identifier, a line end, in turn from token 2 on."""
    return ("12", "(", " total", "get_x", "\n")[(token - 2) % 5]


def factors(selected: Selected) -> list[float]:
    """The factor of each response token's loss."""
    factor_T = selected.train_T if selected.weight_T is None else selected.weight_T
    return [float(value) for value in factor_T[selected.tokens.in_response_T]]
