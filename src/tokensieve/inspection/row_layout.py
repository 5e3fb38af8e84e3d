"""Parts of a row of token ids: responses behind the chat template's assistant header, padding, packed conversations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.data.chat import ChatTemplate
from tokensieve.errors import InputError
from tokensieve.inspection.label_shift import AlignedRow
from tokensieve.selection import structure_ids
from tokensieve.types import BoolArray, IntArray, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_USER: Final = "Wherefore1"
_TOOL: Final = re.compile("tool|function|ipython|python_tag", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ResponseSpan:
    """One assistant turn in a row's tokens.

    Attributes:
        start: the place behind the header.
        first: its first token that only the model can have written: behind a reasoning block that a prompt opens, or
            leaves empty.
        stop: its end-of-turn token; None where the row ends before it.
        after: behind it, or behind the last token where it has none.
        tail: behind the white space that the template writes after the end of turn.
    """

    start: int
    first: int
    stop: int | None
    after: int
    tail: int


@dataclass(frozen=True)
class ResponseFinder:
    """Finds responses by a chat template's header and end-of-turn ids.

    Attributes:
        chat: the model's chat template.
        header: ids before every assistant turn, without a reasoning block that a prompt opens.
    """

    chat: ChatTemplate
    header: tuple[int, ...]

    @cached_property
    def added(self) -> frozenset[int]:
        """Ids of the tokenizer's added tokens."""
        return frozenset(self.tokenizer.get_added_vocab().values())

    @cached_property
    def reasoning(self) -> frozenset[int]:
        """Ids that open and close reasoning."""
        return frozenset(structure_ids(self.tokenizer.get_added_vocab())["reasoning"])

    @cached_property
    def tools(self) -> frozenset[int]:
        """Ids of added tokens that stand around tool calls and tools' answers."""
        return frozenset(token for name, token in self.tokenizer.get_added_vocab().items() if _TOOL.search(name))

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
        """The responses of the conversation between two places of a row.

        A header that follows a token which ends a part within a turn, such as reasoning, begins no turn. A header with
        nothing behind it is a prompt's, and no response.
        """
        headers: list[tuple[int, int]] = []
        written = self._headers(ids_T, begin, end)
        before = begin
        for at, start in written:
            if start < end and not (headers and self._goes_on(ids_T, before, at)):
                headers.append((at, start))
            before = start
        bounds = [*(at for at, _ in headers[1:]), end][: len(headers)]
        places = {at for at, _ in written}
        return [self._span(ids_T, start, bound, places) for (_, start), bound in zip(headers, bounds, strict=True)]

    def _goes_on(self, ids_T: IntArray, before: int, at: int) -> bool:
        """True where a header follows one part of a turn: between it and the header before it one part has ended."""
        inner = self.chat.end_ids - self.chat.stop_ids
        ended = [token for token in ids_T[before:at].tolist() if token in self.chat.end_ids]
        return len(ended) == 1 and ended[0] in inner and int(ids_T[at - 1]) == ended[0]

    def _span(self, ids_T: IntArray, start: int, bound: int, headers: set[int]) -> ResponseSpan:
        """The response that begins behind a header and ends before the next one; ``headers`` are places of all."""
        first = self._first(ids_T, start, bound)
        ends = (np.flatnonzero(np.isin(ids_T[start:bound], list(self.chat.end_ids))) + start).tolist()
        # A turn of a history may end as a part within a turn does, which the assistant's next header follows.
        own = [at for at in ends if int(ids_T[at]) in self.chat.stop_ids]
        stop = next(iter(own or [at for at in ends if at + 1 not in headers]), None)
        if stop is None:
            return ResponseSpan(start, first, None, bound, bound)
        tail = stop + 1
        while tail < bound and self.is_blank(int(ids_T[tail])):
            tail += 1
        return ResponseSpan(start, min(first, stop), stop, stop + 1, tail)

    def _first(self, ids_T: IntArray, start: int, bound: int) -> int:
        """The place behind reasoning tags and blanks at a response's beginning; its start where there is no tag."""
        first = start
        while first < bound and (int(ids_T[first]) in self.reasoning or self.is_blank(int(ids_T[first]))):
            first += 1
        return first if self.reasoning.intersection(ids_T[start:first].tolist()) else start

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
    added = chat.encoder.tokenizer.get_added_vocab()
    reasoning = structure_ids(added)["reasoning"]
    if not set(added.values()).intersection(header):  # such as Mistral's, whose prompt ends in the user's own [/INST]
        header = _behind_last(prompt_T.tolist(), set(added.values()))
    if not header or tuple(prompt_T[-len(header) :].tolist()) != header:
        raise InputError(
            "the chat template writes its assistant header in plain text, so that responses cannot be told from text by"
            " their ids",
            where="chat template",
            fix="inspect the data set before it is tokenised, or with a model whose template has header tokens",
        )
    opened = next((place for place, token in enumerate(header) if place and token in reasoning), len(header))
    return ResponseFinder(chat, header[:opened])


def _behind_last(prompt: Sequence[int], added: set[int]) -> tuple[int, ...]:
    """The prompt's ids from its last added token on, where only the user's turn is before it; empty without one."""
    places = [place for place, token in enumerate(prompt) if token in added]
    return tuple(prompt[places[-1] :]) if places and places[-1] >= len(prompt) - 2 else ()


@dataclass(frozen=True, slots=True, eq=False)
class RowLayout:
    """A row's parts in the places of its tokens.

    Attributes:
        spans: its responses.
        padded_T: True on padding.
        starts: first places of its conversations.
        ends: the places behind them.
    """

    spans: list[ResponseSpan]
    padded_T: BoolArray
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def lay_out(line: AlignedRow, finder: ResponseFinder) -> RowLayout:
    """A row's responses, padding and conversations."""
    padded_T = _padding(line, finder)
    real = np.flatnonzero(~padded_T)
    begin, end = (int(real[0]), int(real[-1]) + 1) if len(real) else (0, 0)
    starts = line.row.starts or _by_begin_ids(line, finder, begin)
    starts = tuple(sorted({begin, *(place for place in starts if begin < place < end)}))
    ends = (*starts[1:], end)
    spans = [span for a, b in zip(starts, ends, strict=True) for span in finder.spans(line.ids_T, a, b)]
    return RowLayout(spans, padded_T, starts, ends)


def _by_begin_ids(line: AlignedRow, finder: ResponseFinder, begin: int) -> tuple[int, ...]:
    """Begins of packed conversations by the begin-of-text id, of doubled ones the first."""
    if finder.begin_id is None:
        return ()
    places = np.flatnonzero(line.ids_T == finder.begin_id).tolist()
    return tuple(b for a, b in pairwise([begin - 1, *places]) if b - a > 1 or b == begin)


def _padding(line: AlignedRow, finder: ResponseFinder) -> BoolArray:
    """True on padding: what the attention mask leaves out, else a run of the padding id at either end.

    Where the padding id also ends turns, the first of the run at the row's end is the end of turn.
    """
    length, row = len(line.ids_T), line.row
    padded_T = np.zeros(length, dtype=np.bool_)
    if row.attention_T is not None and (row.attention_T == 0).any():
        padded_T[: len(row.ids_T)] = row.attention_T == 0
        if length > len(row.ids_T):
            padded_T[-1] = padded_T[-2]
        return padded_T
    if finder.pad_id is None:
        return padded_T
    others = np.flatnonzero(line.ids_T != finder.pad_id)
    if not len(others):
        return ~padded_T
    ends_turn = finder.pad_id in finder.chat.end_ids
    padded_T[int(others[-1]) + 1 + ends_turn :] = True
    lead = int(others[0])
    if lead > 1 or (lead == 1 and finder.pad_id != finder.tokenizer.bos_token_id):
        padded_T[:lead] = True
    return padded_T


def flags(spans: list[ResponseSpan], length: int) -> tuple[BoolArray, BoolArray]:
    """True on responses, and True on white space behind their ends of turn."""
    response_T, tail_T = np.zeros((2, length), dtype=np.bool_)
    for span in spans:
        response_T[span.start : span.after] = True
        tail_T[span.after : span.tail] = True
    return response_T, tail_T
