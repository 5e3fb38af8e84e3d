"""Protected tokens: structural tokens that are trained whatever the policy says."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np

from tokensieve.config import SelectSettings
from tokensieve.types import BoolArray, IntArray, Tokens

Structure: TypeAlias = Literal["tool_calls", "reasoning"]
"""Kinds of structural tokens beside end of turn, which the chat template itself tells."""

# Blanks within a special token's name: DeepSeek writes U+2581, and a full-width bar beside it.
_STRUCTURE: Final[Mapping[Structure, re.Pattern[str]]] = {
    "tool_calls": re.compile(
        r"tool[_\s▁]?calls?|function[_\s]?call|python_tag|<\|(call|constrain)\|>|\[ARGS\]|\[CALL_ID\]"
        r"|tool▁sep|</?arg_(key|value)>",
        re.IGNORECASE,
    ),
    "reasoning": re.compile(
        r"^[<\[◁]/?(\|?)/?(seed:)?(think|thinking|thought|reasoning)(\|?)[>\]▷]$|<\|/?(channel|start_thinking"
        r"|end_thinking|begin_of_thought|end_of_thought|message)\|?>|<channel\|>|<\|(START|END)_THINKING\|>",
        re.IGNORECASE,
    ),
}
"""Names of special tokens, by what they delimit in the chat formats of published models."""


def structure_ids(added_vocabulary: Mapping[str, int]) -> dict[Structure, list[int]]:
    """Token ids that delimit tool calls and reasoning, by kind, ascending.

    A delimiter that a model's vocabulary does not hold as one token is text, and is not found.

    Args:
        added_vocabulary: a tokenizer's added tokens with their ids (``get_added_vocab()``).
    """
    return {
        kind: sorted(token for name, token in added_vocabulary.items() if pattern.search(name))
        for kind, pattern in _STRUCTURE.items()
    }


def protected_T(tokens: Tokens, settings: SelectSettings, ids: Mapping[str, Sequence[int] | IntArray]) -> BoolArray:
    """True on the response tokens that are trained whatever the policy says.

    Args:
        tokens: the row.
        settings: the kinds that are protected; none where ``paper_exact``.
        ids: token ids by kind, as ``structure_ids`` gives them.
    """
    found_T = np.zeros(len(tokens), dtype=np.bool_)
    if settings.paper_exact:
        return found_T
    for kind in settings.protect:
        if kind == "end_of_turn":
            found_T |= tokens.ends_turn_T
        elif len(ids.get(kind, ())):
            found_T |= tokens.in_response_T & np.isin(tokens.ids_T, np.asarray(ids[kind]))
    return found_T
