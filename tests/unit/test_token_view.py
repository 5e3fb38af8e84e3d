"""A row in the terminal: strike-through for what is not trained, and nothing that data can do to the terminal."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from tokensieve.analysis import PERPLEXITY_STEPS
from tokensieve.token_view import legend, level, printable, row_facts, token_text, token_view
from tokensieve.types import Scored, Scores, Selected, Tokens, bools, ints

PIECES = ["Q?", "def", " f", "\r\n", "\x1b[31m"]
NLL = np.array([np.nan, 0.0, math.log(3), math.log(200), np.nan], dtype=np.float32)
TOKENS = Tokens("row-1", ints(range(5)), bools(c == "1" for c in "01111"), bools(c == "1" for c in "00001"))
SCORED = Scored(TOKENS, {"base": Scores(NLL)})
SELECTED = Selected(SCORED, bools(c == "1" for c in "01101"))


def test_what_is_not_trained_is_struck_through_and_nothing_else() -> None:
    text = token_text(SELECTED, PIECES.__getitem__)
    struck = [text.plain[span.start : span.end] for span in text.spans if getattr(span.style, "strike", False)]
    assert struck == ["\\r↵\n"]
    assert "⟦\\r↵\n⟧" in token_text(SELECTED, PIECES.__getitem__, marks=True).plain


def test_all_of_a_scored_row_counts_as_trained() -> None:
    text = token_text(SCORED, PIECES.__getitem__)
    assert not any(getattr(span.style, "strike", False) for span in text.spans)
    assert row_facts(SCORED) == "row-1 · 4 response tokens · all trained"


def test_facts_tell_the_share_of_tokens_and_of_nll() -> None:
    share = math.log(200) / (math.log(200) + math.log(3))
    assert row_facts(SELECTED) == f"row-1 · 4 response tokens · 1 not trained (25%), which hold {share:.0%} of the nll"


def test_no_control_character_reaches_the_terminal() -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=False, width=80).print(token_view(SELECTED, PIECES.__getitem__))
    shown = stream.getvalue()
    assert "\x1b" not in shown
    assert "\\x1b[31m" in shown
    assert "perplexity above" in shown


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        ("a b", "a b"),
        ("\n", "↵\n"),
        ("\t", "⇥   "),
        ("\x00", "\\x00"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("", "∅"),
    ],
)
def test_printable(piece: str, shown: str) -> None:
    assert printable(piece) == shown


def test_levels_follow_the_steps_and_unscored_tokens_have_none() -> None:
    assert level(0.0) == 0
    assert level(math.nan) == 0
    assert level(math.log(2.6)) == PERPLEXITY_STEPS.index(2.5) + 1
    assert level(50.0) == len(PERPLEXITY_STEPS)
    assert all(f"{step:g}" in legend().plain for step in PERPLEXITY_STEPS)
