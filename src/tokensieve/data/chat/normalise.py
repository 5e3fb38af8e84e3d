"""Changes to a response's text before it is made into tokens, and which tokens they concern."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from tokensieve.types import BoolArray, Example, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Normalisation: TypeAlias = Literal["line_ends", "trailing_blanks", "tabs"]

_TAB_WIDTH: Final = 4
_CONCERNED: Final[Mapping[Normalisation, "re.Pattern[str]"]] = {
    "line_ends": re.compile(r"\r"),
    "trailing_blanks": re.compile(r"[ \t]+(?=\r?\n|\r|\Z)"),
    "tabs": re.compile(r"\t"),
}
_IN_A_TOKEN: Final[Mapping[Normalisation, "re.Pattern[str]"]] = {
    **_CONCERNED,
    "trailing_blanks": re.compile(r"[ \t]+(?=\r?\n|\r)"),  # without the end of the text, which a token's is not
}


def normalise(text: str, kinds: Sequence[Normalisation]) -> str:
    """The text with line ends as a line feed, without blanks at the ends of lines, with tabs as four-column stops.

    Each only where it is among ``kinds``; the order of ``kinds`` does not matter.
    """
    if "line_ends" in kinds:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "trailing_blanks" in kinds:
        text = _CONCERNED["trailing_blanks"].sub("", text)
    if "tabs" in kinds:
        text = text.expandtabs(_TAB_WIDTH)
    return text


def normalised(example: Example, kinds: Sequence[Normalisation]) -> Example:
    """The example with its assistant's texts normalised; unchanged where it was sampled, which fixes its tokens."""
    if not kinds or example.sampled_ids is not None:
        return example
    messages = tuple(_normalised_turn(message, kinds) for message in example.messages)
    if messages == example.messages:
        return example
    return Example(example.id, messages, example.task, example.origin, None, example.tools)


def concerned_T(tokens: Tokens, tokenizer: "PreTrainedTokenizerBase", kinds: Sequence[Normalisation]) -> BoolArray:
    """True on the response tokens whose text a normalisation would change or remove.

    Summing nll over them tells how much of a data set's perplexity is white space that normalising takes away,
    without a second pass of the model.
    """
    concerned = np.zeros(len(tokens), dtype=np.bool_)
    places = np.flatnonzero(tokens.in_response_T)
    texts = [tokenizer.decode([int(tokens.ids_T[place])]) for place in places]
    ends = np.cumsum([len(text) for text in texts])
    whole = "".join(texts)
    for kind in kinds:
        for match in _CONCERNED[kind].finditer(whole):
            first = int(np.searchsorted(ends, match.start(), side="right"))
            last = int(np.searchsorted(ends, match.end() - 1, side="right"))
            concerned[places[first : last + 1]] = True
    return concerned


class WhiteSpace:
    """Which tokens of the responses seen so far hold white space that a normalisation changes, whatever the context.

    A blank that ends a line is seen where it and the line's end are one token, which they are in most vocabularies.

    Args:
        tokenizer: tells the tokens' texts.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._kinds: dict[int, tuple[Normalisation, ...]] = {}

    def add(self, tokens: Tokens) -> None:
        """Look at one row."""
        for token in np.unique(tokens.ids_T[tokens.in_response_T]).tolist():
            if token not in self._kinds:
                text = self._tokenizer.decode([token])
                self._kinds[token] = tuple(kind for kind, pattern in _IN_A_TOKEN.items() if pattern.search(text))

    @property
    def ids(self) -> dict[str, list[int]]:
        """Token ids by the normalisation that changes them, ascending."""
        return {kind: sorted(i for i, kinds in self._kinds.items() if kind in kinds) for kind in _IN_A_TOKEN}


def _normalised_turn(message: Message, kinds: Sequence[Normalisation]) -> Message:
    content = message["content"]
    if message["role"] != "assistant" or content is None:
        return message
    return {**message, "content": normalise(content, kinds)}
