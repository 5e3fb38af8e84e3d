"""Responses in token ids alone: behind the chat template's assistant header, up to the first end-of-turn id."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.data.chat import ChatTemplate
from tokensieve.errors import InputError
from tokensieve.types import IntArray, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_USER: Final = "Wherefore1"


@dataclass(frozen=True, slots=True)
class ResponseSpan:
    """One assistant turn in a row's tokens.

    Attributes:
        start: its first token, behind the header and the reasoning block that a prompt may open.
        stop: its end-of-turn token; None where the row ends before it.
        after: behind it, or behind the last token where it has none.
        tail: behind the white space that the template writes after the end of turn.
    """

    start: int
    stop: int | None
    after: int
    tail: int


@dataclass(frozen=True)
class ResponseFinder:
    """Finds responses by a chat template's header and end-of-turn ids.

    Attributes:
        chat: the model's chat template.
        header: ids before every assistant turn.
        opener: ids behind them that open a reasoning block in a prompt; empty where there are none.
    """

    chat: ChatTemplate
    header: tuple[int, ...]
    opener: tuple[int, ...]

    @cached_property
    def added(self) -> frozenset[int]:
        """Ids of the tokenizer's added tokens."""
        return frozenset(self.tokenizer.get_added_vocab().values())

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer."""
        return self.chat.encoder.tokenizer

    @property
    def begin_id(self) -> int | None:
        """The begin-of-text id; None where the tokenizer has none, or ends turns with it."""
        begin = self.tokenizer.bos_token_id
        return None if begin is None or int(begin) in self.chat.end_ids else int(begin)

    @property
    def pad_id(self) -> int | None:
        """The padding id; None where the tokenizer has none."""
        pad = self.tokenizer.pad_token_id
        return None if pad is None else int(pad)

    def text(self, token: int) -> str:
        """The token's text."""
        return str(self.tokenizer.decode([token]))

    @cached_property
    def _blank(self) -> dict[int, bool]:
        return {}

    def is_blank(self, token: int) -> bool:
        """True where a token is white space only."""
        if token not in self._blank:
            self._blank[token] = token not in self.added and not self.text(token).strip() and bool(self.text(token))
        return self._blank[token]

    def spans(self, ids_T: IntArray, begin: int, end: int) -> list[ResponseSpan]:
        """The responses of the conversation between two places of a row."""
        headers = self._headers(ids_T, begin, end)
        found = []
        for index, (_, start) in enumerate(headers):
            bound = headers[index + 1][0] if index + 1 < len(headers) else end
            if tuple(ids_T[start : start + len(self.opener)].tolist()) == self.opener:
                start += len(self.opener)
            stops = np.flatnonzero(np.isin(ids_T[start:bound], list(self.chat.stop_ids)))
            if not len(stops):
                found.append(ResponseSpan(start, None, bound, bound))
                continue
            stop = start + int(stops[0])
            tail = stop + 1
            while tail < bound and self.is_blank(int(ids_T[tail])):
                tail += 1
            found.append(ResponseSpan(start, stop, stop + 1, tail))
        return found

    def _headers(self, ids_T: IntArray, begin: int, end: int) -> list[tuple[int, int]]:
        """Begin of each header and the place behind it.

        A header that ends in a line break may have been joined with the response's own first one: then the response
        begins with the joined token.
        """
        first, length = self.header[0], len(self.header)
        last = self.text(self.header[-1])
        found: list[tuple[int, int]] = []
        for at in (np.flatnonzero(ids_T[begin:end] == first) + begin).tolist():
            got = tuple(ids_T[at : min(at + length, end)].tolist())
            if got == self.header:
                found.append((at, at + length))
            elif length > 1 and len(got) == length and got[:-1] == self.header[:-1] and not last.strip():
                joined = self.text(got[-1])
                if got[-1] not in self.added and joined.startswith(last):
                    found.append((at, at + length - 1))
        return found


def response_finder(chat: ChatTemplate) -> ResponseFinder:
    """A finder for a chat template.

    Raises:
        InputError: the template's header of the assistant cannot be told from text by its ids.
    """
    prompt_T = chat.prompt_ids([Message(role="user", content=_USER)])
    header = tuple(chat.text_ids(chat.ends.header).tolist())
    opener = tuple(chat.text_ids(chat.ends.opener).tolist()) if chat.ends.opener else ()
    added = set(chat.encoder.tokenizer.get_added_vocab().values())
    if not added.intersection(header):  # such as Mistral's, whose prompt ends in the user's own [/INST]
        after = _behind_last(prompt_T.tolist(), added)
        if after is None:
            raise InputError(
                "the chat template writes its assistant header in plain text, so that responses cannot be told from"
                " text by their ids",
                where="chat template",
                fix="inspect the data set before it is tokenised, or with a model whose template has header tokens",
            )
        return ResponseFinder(chat, after, ())
    if tuple(prompt_T[-len(header) :].tolist()) != header:
        raise InputError("the assistant header's ids differ by themselves and in a prompt", where="chat template")
    base = header[: len(header) - len(opener)] if opener and header[-len(opener) :] == opener else header
    return ResponseFinder(chat, base, opener if base != header else ())


def _behind_last(prompt: Sequence[int], added: set[int]) -> tuple[int, ...] | None:
    """The prompt's ids from its last added token on, where only the user's turn is before it; None without one."""
    places = [place for place, token in enumerate(prompt) if token in added]
    if not places or places[-1] < len(prompt) - 2:
        return None
    return tuple(prompt[places[-1] :])
