"""Text normalisation of responses before they are tokenised, and the tokens that it would change."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from tokensieve.types import Example, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Normalisation: TypeAlias = Literal["line_ends", "trailing_blanks", "tabs"]

_TAB_WIDTH: Final = 4
_TRAILING_BLANKS: Final = re.compile(r"[ \t]+(?=\r?\n|\r|\Z)")
_IN_A_TOKEN: Final[Mapping[Normalisation, "re.Pattern[str]"]] = {
    "line_ends": re.compile(r"\r"),
    "trailing_blanks": re.compile(r"[ \t]+(?=\r?\n|\r)"),  # without the end of the text, which a token's is not
    "tabs": re.compile(r"\t"),
}


def normalise(text: str, kinds: Sequence[Normalisation]) -> str:
    """The text with line ends as a line feed, without blanks at the ends of lines, with tabs as four-column stops.

    Each only where it is among ``kinds``; the order of ``kinds`` does not matter.
    """
    if "line_ends" in kinds:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "trailing_blanks" in kinds:
        text = _TRAILING_BLANKS.sub("", text)
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


class WhiteSpace:
    """Tokens of the responses seen so far that hold white space which a normalisation changes, whatever the context.

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
