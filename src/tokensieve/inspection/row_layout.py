"""Parts of a row of token ids: padding, packed conversations, responses."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tokensieve.inspection.label_shift import AlignedRow
from tokensieve.inspection.response_ids import ResponseFinder, ResponseSpan
from tokensieve.types import BoolArray


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
