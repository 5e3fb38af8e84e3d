"""Guesses at the next tokens of an answer, from its own text: what followed the last time its last tokens occurred.

A forward pass of a few tokens costs a CPU little more than one of a single token, since both read all weights. So where
few answers are left, each pass checks some guesses: those that the model would have drawn itself are kept, all others
are not. The answers are the same (to float rounding); text that repeats itself, as code and loops do, comes faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.sampling.cache import ColumnCache
from tokensieve.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LONGEST: Final = 16
"""Most guesses of a row in one pass."""

_PATTERN: Final = (4, 3, 2)
"""Tokens at the end that are looked for, longest first."""


@dataclass(slots=True)
class Guesser:
    """Guesses for one answer; the more came true, the more are made.

    Attributes:
        prompt_T: token ids of the prompt.
        reach: most guesses in the next pass.
    """

    prompt_T: IntArray
    reach: int = 2

    def guess(self, ids: Sequence[int], room: int) -> list[int]:
        """The tokens that may come next; empty where nothing speaks for any.

        Args:
            ids: the answer so far.
            room: tokens that the answer may still have behind the next one.
        """
        text_T = np.concatenate([self.prompt_T, np.asarray(ids)]).astype(np.int32)
        count = min(self.reach, room)
        if count < 1:
            return []
        for size in _PATTERN:
            place = _last_place(text_T[:-1], text_T[-size:]) if len(text_T) > size else -1
            if place >= 0:
                return [int(token) for token in text_T[place + size : place + size + count]]
        return []

    def learn(self, made: int, right: int) -> None:
        """Take in how many of the guesses came true."""
        if made:
            self.reach = min(_LONGEST, 2 * self.reach) if right == made else max(1, right)


def worth(guesses: Sequence[Sequence[int]]) -> int:
    """Guesses of each row that a pass should check: the most of which no more than half are padding."""
    lengths = [len(guess) for guess in guesses]
    counts = range(1, max(lengths, default=0) + 1)
    return max((n for n in counts if 2 * sum(min(own, n) for own in lengths) >= n * len(lengths)), default=0)


def logits_of_guesses(
    model: "PreTrainedModel", cache: ColumnCache, ids: Sequence[Sequence[int]], starts: Sequence[int], pad_id: int
) -> torch.Tensor:
    """Logits [B, Q, V] after each of the tokens, which are written to the next Q columns of the cache.

    Args:
        model: a causal language model for which one boolean mask serves all layers, on a CPU.
        cache: keys and values of B rows.
        ids: each row's last token and the guesses at the next ones; shorter rows are padded.
        starts: column of each row's first token.
        pad_id: any valid id.
    """
    begin, end = min(starts), cache.end
    width = max(len(row) for row in ids)
    cache.begin_at(begin)
    columns_Q = torch.arange(end, end + width)
    starts_B1 = torch.tensor(starts)[:, None]
    columns_K = torch.arange(begin, end + width)
    mask_BQK = (columns_K >= starts_B1[:, None]) & (columns_K <= columns_Q[:, None])
    output = model(
        input_ids=torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in ids]),
        attention_mask=mask_BQK[:, None],
        position_ids=columns_Q - starts_B1,
        past_key_values=cache,
        use_cache=True,
    )
    return output.logits  # type: ignore[no-any-return]


def _last_place(text_T: IntArray, pattern_N: IntArray) -> int:
    """Index of a pattern's last occurrence; -1 where there is none."""
    found = np.flatnonzero(text_T[: len(text_T) - len(pattern_N) + 1] == pattern_N[0])
    for place in found[::-1]:
        if np.array_equal(text_T[place : place + len(pattern_N)], pattern_N):
            return int(place)
    return -1
