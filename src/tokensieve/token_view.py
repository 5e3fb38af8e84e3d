"""A training row in the terminal: each token coloured by its perplexity, struck through where it is not trained."""

import math
from collections.abc import Callable
from typing import Final

from rich.console import Group
from rich.style import Style
from rich.text import Text

from tokensieve.analysis import PERPLEXITY_STEPS
from tokensieve.types import BASE_SCORER, Scored, Selected

# Backgrounds from pale to deep with a text colour that can be read on each, on a dark terminal and a light one.
_LEVELS: Final = (
    Style(),
    *(Style(color="#1c1a17", bgcolor=shade) for shade in ("#fdf0d5", "#fbdda6", "#f8bd72", "#ee9448", "#d5652a")),
    *(Style(color="#ffffff", bgcolor=shade) for shade in ("#a63c14", "#6d1f0a")),
)
_PROMPT: Final = Style(dim=True)
_NOT_TRAINED: Final = Style(strike=True)
_REORDERING: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def token_view(
    row: Selected | Scored,
    piece: Callable[[int], str],
    *,
    scorer: str = BASE_SCORER,
    marks: bool = False,
    with_legend: bool = True,
) -> Group:
    """A row as a terminal shows it: a line about it, its tokens (``token_text``), and what the colours stand for.

    Args:
        row: a selected row, or a scored one, of which every response token counts as trained.
        piece: token id to text.
        scorer: whose perplexity gives the colour.
        marks: also put ⟦ ⟧ around what is not trained, for outputs that can't strike through.
        with_legend: end with the legend.

    Raises:
        InputError: the row has no scores of that name.
    """
    facts = Text(row_facts(row, scorer=scorer), Style(bold=True))
    parts = [facts, token_text(row, piece, scorer=scorer, marks=marks)]
    return Group(*parts, *([legend(marks=marks)] if with_legend else []))


def token_text(
    row: Selected | Scored, piece: Callable[[int], str], *, scorer: str = BASE_SCORER, marks: bool = False
) -> Text:
    """A row's tokens as rich text.

    The prompt is dim and has no colour. Line ends are shown as a mark and then break the line; control characters are
    shown by their code, so that no data can move the cursor or recolour the terminal.

    Args:
        row: a selected row, or a scored one, of which every response token counts as trained.
        piece: token id to text.
        scorer: whose perplexity gives the colour; tokens without a score have none.
        marks: also put ⟦ ⟧ around what is not trained, for outputs that can't strike through.

    Raises:
        InputError: the row has no scores of that name.
    """
    scored = row.scored if isinstance(row, Selected) else row
    tokens, nll_T = scored.tokens, scored.nll_T(scorer)
    train_T = row.train_T if isinstance(row, Selected) else tokens.in_response_T
    text = Text(overflow="fold")
    for place, token in enumerate(tokens.ids_T):
        shown = printable(piece(int(token)))
        if not tokens.in_response_T[place]:
            text.append(shown, _PROMPT)
        elif train_T[place]:
            text.append(shown, _LEVELS[level(float(nll_T[place]))])
        else:
            told = f"⟦{shown}⟧" if marks else shown
            text.append(told, _LEVELS[level(float(nll_T[place]))] + _NOT_TRAINED)
    return text


def row_facts(row: Selected | Scored, *, scorer: str = BASE_SCORER) -> str:
    """One line about a row: its id, its response tokens, how many are left out and the share of the nll on them.

    Raises:
        InputError: the row has no scores of that name.
    """
    scored = row.scored if isinstance(row, Selected) else row
    in_response_T = scored.tokens.in_response_T
    train_T = row.train_T if isinstance(row, Selected) else in_response_T
    left_out_T = in_response_T & ~train_T
    nll_T = scored.nll_T(scorer)
    scored_T = in_response_T & scored.scores[scorer].scored_T
    total = float(nll_T[scored_T].sum())
    tokens, left_out = int(in_response_T.sum()), int(left_out_T.sum())
    line = f"{scored.tokens.id} · {tokens} response tokens"
    if not left_out:
        return f"{line} · all trained"
    line += f" · {left_out} not trained ({left_out / tokens:.0%})"
    return f"{line}, which hold {float(nll_T[scored_T & left_out_T].sum()) / total:.0%} of the nll" if total else line


def legend(*, marks: bool = False) -> Text:
    """The colours and what they stand for; ``marks`` as in ``token_view``."""
    text = Text("perplexity above ")
    for step, style in zip(PERPLEXITY_STEPS, _LEVELS[1:], strict=True):
        text.append(f" {step:g} ", style)
    return (
        text.append("  ")
        .append("⟦not trained⟧" if marks else "not trained", _NOT_TRAINED)
        .append("  ")
        .append("prompt", _PROMPT)
    )


def level(nll: float) -> int:
    """Number of ``PERPLEXITY_STEPS`` that a token's perplexity exceeds; 0 where it is not scored (NaN)."""
    return sum(nll > math.log(step) for step in PERPLEXITY_STEPS)


def printable(piece: str) -> str:
    """A token's text as a terminal can show it: control characters by their escapes, ↵ at line ends."""
    return "".join(_shown(character) for character in piece) or "∅"


def _shown(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character == "\t":
        return "⇥   "
    if character == "\r":
        return "\\r"
    code = ord(character)
    if code < 0x20 or 0x7F <= code < 0xA0 or character in _REORDERING:
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return character
